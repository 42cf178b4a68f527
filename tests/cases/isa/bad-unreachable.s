; test: verify                 source: RFC 9669
    r0 = 0
    exit
    r0 = 1
    exit
; error V0004 at 2: no path leads to slot 2
