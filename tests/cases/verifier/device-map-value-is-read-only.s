; test: verify    source: what a lookup in a device map returns must not be written
; section: xdp
    .map ports type=devmap key_size=4 value_size=4 max_entries=4
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = ports ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    *(u32 *)(r0 + 0) = 1
out:
    r0 = 2
    exit
; error V0207 at 7: map "ports" is read-only for programs
