/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* nacre whois: who had a public address or port, for answers to abuse reports. Exit status 3: nobody. */
int cmd_whois(int argc, char **argv);
