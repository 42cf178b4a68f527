; test: verify    source: bpf_get_func_ip is offered to all tracing programs, and refused where no function is probed
; section: tracepoint/syscalls/sys_enter_nanosleep
    call bpf_get_func_ip
    r0 = 0
    exit
; error E0102 at 0: bpf_get_func_ip is only for programs on functions: kprobe, fentry, fexit and fmod_ret
