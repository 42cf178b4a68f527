; test: verify, run, unchecked source: Linux 6.18
; the budget ends a loop that nothing else would end; what it counts is no part of the result
    r0 = 1
again:
    may_goto out
    goto again
out:
    exit
; r0 = 0x1
