# SPDX-License-Identifier: Apache-2.0
"""When a lease was renewed; look() must be called often."""

import datetime


class Renewals:
    def __init__(self, renew_time):
        """RENEW_TIME(): the lease's spec.renewTime now."""
        self.renew_time, self.times = renew_time, []

    def look(self):
        at = datetime.datetime.fromisoformat(self.renew_time().replace("Z", "+00:00"))
        if not self.times or at != self.times[-1]:
            self.times.append(at)

    def check(self, lease_s):
        gaps = [(b - a).total_seconds() for a, b in zip(self.times, self.times[1:])]
        print(f"the lease of {lease_s} s was renewed {len(self.times)} times, at most {max(gaps):.1f} s apart")
        assert max(gaps) < lease_s
