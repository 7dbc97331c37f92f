/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* `nacre pki`: the certificate authority of a cloud (base/pki.h) from the command line. */

int cmd_pki(int argc, char **argv);
