"""
For those who test a connector, or a migration with one.

`conformance` is the suite every connector passes (it needs pytest); `faults` makes any
connector fail where a test wants it to.
"""
