/* SPDX-License-Identifier: Apache-2.0 */
#include "base/testing.h"
int main(void) {
	return 0;
}
