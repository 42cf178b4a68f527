; test: verify    source: a test of bits makes the kernel forget the ranges
; section: syscall
    .map values type=array key_size=4 value_size=64 max_entries=1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r6 = r1
    r1 = values ll
    call bpf_map_lookup_elem
    if r0 != 0 goto found
    r0 = 0
    exit
found:
    r5 = *(u8 *)(r6 + 8)
    r5 = -r5
    if r5 & 256 goto out
    if r5 >= 56 goto out
    r0 += r5
    *(u64 *)(r0 + 56) = r5
out:
    r0 = 0
    exit
; error V0201 at 15: r0 may reach byte 119 of a map value; 64 bytes are accessible
