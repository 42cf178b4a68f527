; test: verify                 source: RFC 9669
    r0 = 1
    r0 /= 0
    exit
; error V0107 at 1: division by the constant zero
