"""Stage-1 data (§3.2): embed pictures, sort them into domains, drop duplicates, group them by five, write clusters."""
