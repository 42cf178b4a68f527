; test: verify                 source: RFC 9669
    r0 = 0
    call f
    exit
f:
    call f
    exit
; error V0308 at 3: the call of func1 is more than 8 calls deep
