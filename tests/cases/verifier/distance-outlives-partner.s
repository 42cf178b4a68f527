; test: verify    source: the distance of a linked scalar limits pointer arithmetic also where nobody else shares its number any more
; section: syscall
    .map values type=array key_size=4 value_size=64 max_entries=1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r7 = *(u32 *)(r1 + 0)
    r6 = *(u32 *)(r1 + 4)
    r8 = *(u32 *)(r1 + 8)
    r1 = values ll
    call bpf_map_lookup_elem
    if r0 != 0 goto found
    r0 = 0
    exit
found:
    r5 = r7
    w5 += 894753625
    r7 = 0
    r4 = 0
    r3 = 0
    r2 = 0
    r1 = 0
    if r6 == 1 goto one
one:
    if r8 == 1 goto two
two:
    r1 = 1
    if r5 > 7 goto out
    r0 += r5
    *(u8 *)(r0 + 0) = 1
out:
    r0 = 0
    exit
; error V0104 at 23: a map value would be 894753625 bytes away from its start
