; test: verify    source: a loop that fills a spilled number comes back to the same state, though nobody else shares the number
; section: syscall
    r2 = *(u64 *)(r1 + 0)
    *(u64 *)(r10 - 8) = r2
    r2 = 0
    r3 = 0
loop:
    r4 = r10
    r4 += -8
    r0 = *(u64 *)(r4 + 0)
    r3 *= 7
    r0 += r3
    goto next
next:
    r3 = r0
    if r2 == -8 goto out
    goto loop
out:
    r0 = 0
    exit
; error C0101 at 9: the loop at slot 10 comes back to the same state: it would never end
