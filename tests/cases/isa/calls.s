; test: verify, run            source: RFC 9669 §4.3.2
; r6 to r9 survive calls; each function has its own stack
    r6 = 6
    r7 = 7
    r8 = 8
    r9 = 9
    *(u64 *)(r10 - 8) = 5
    r1 = 1
    call one
    r0 += r6
    r0 += r7
    r0 += r8
    r0 += r9
    r1 = *(u64 *)(r10 - 8)
    r0 += r1
    exit
one:
    r6 = 60
    r9 = 90
    *(u64 *)(r10 - 8) = 50
    r1 += 1000
    call two
    r0 += r6
    exit
two:
    r0 = r1
    r0 += 100000
    exit
; r0 = 0x18ae8
