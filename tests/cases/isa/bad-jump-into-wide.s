; test: verify                 source: RFC 9669
    r0 = 0
    if r0 == 0 goto +1
    r1 = 5 ll
    exit
; error V0005 at 3: a jump leads to slot 3, the middle of a wide instruction
