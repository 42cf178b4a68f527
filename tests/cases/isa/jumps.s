; test: verify, run            source: RFC 9669 §4.3
; forward, backward, and the long form
    r0 = 0
    r2 = 5
again:
    r0 += r2
    r2 += -1
    if r2 != 0 goto again
    gotol far
near:
    r0 += 1000
    exit
far:
    r0 += 100
    goto near
; r0 = 0x45b
