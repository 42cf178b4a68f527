; test: verify                 source: RFC 9669
    r0 = 0
; error V0003 at 0: the last instruction of the function is neither an exit nor a jump
