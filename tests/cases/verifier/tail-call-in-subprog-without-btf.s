; test: verify    source: tail calls in subprogs need BTF that says what they return
; section: xdp
    .map jmp type=prog_array key_size=4 value_size=4 max_entries=4
    call sub
    r0 = 1
    exit
sub:
    r2 = jmp ll
    r3 = 0
    call bpf_tail_call
    r0 = 0
    exit
; error V0511: the function at slot 3 has tail calls or legacy loads, which needs BTF that says what it returns
