; test: verify                 source: RFC 9669
    exit
; error V0101 at 0: r0 is read but was never written on this path
