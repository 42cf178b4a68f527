; test: verify                 source: RFC 9669
    r0 = r3
    exit
; error V0101 at 0: r3 is read but was never written on this path
