; test: verify, run            source: Linux 6.18, MAX_CALL_FRAMES
; seven frames (the eighth is what calls the program in the kernel)
    r1 = 0
    call f1
    exit
f1:
    r1 += 1
    call f2
    exit
f2:
    r1 += 1
    call f3
    exit
f3:
    r1 += 1
    call f4
    exit
f4:
    r1 += 1
    call f5
    exit
f5:
    r1 += 1
    call f6
    exit
f6:
    r1 += 1
    r0 = r1
    exit
; r0 = 0x6
