#!/usr/bin/env bash
# Records web.pcap: HTTP over IPv4 and IPv6, UDP questions with answers, and ICMP errors, between two network namespaces that
# exist only for this. Needs root, iproute2, tcpdump, python3, curl.
set -eu
cd "$(dirname "$0")"
client=skep-client-$$ server=skep-server-$$
web=$(mktemp -d)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	ip netns del "$client" 2>/dev/null || true
	ip netns del "$server" 2>/dev/null || true
	rm -rf "$web"
}
trap cleanup EXIT
ip netns add "$client"
ip netns add "$server"
ip -n "$client" link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns "$server"
ip -n "$client" addr add 10.1.0.1/24 dev eth0
ip -n "$server" addr add 10.1.0.2/24 dev eth0
ip -n "$client" addr add fd00::1/64 dev eth0 nodad
ip -n "$server" addr add fd00::2/64 dev eth0 nodad
for ns in "$client" "$server"; do
	ip -n "$ns" link set lo up
	ip -n "$ns" link set eth0 up
done
for i in 1 2 3; do echo "<p>page $i" > "$web/$i.html"; done
head -c 6000 /dev/zero | tr '\0' 'x' > "$web/large.html"
ip netns exec "$server" python3 -m http.server 80 --bind :: --directory "$web" > /dev/null 2>&1 &
pids+=($!)
ip netns exec "$server" python3 -c '
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::", 5300))
while True:
    question, who = s.recvfrom(512)
    s.sendto(question.upper(), who)
' &
pids+=($!)
sleep 1
ip netns exec "$client" tcpdump -q -i eth0 -s 0 -U -w "$web/web.pcap" 'tcp or udp or icmp or icmp6' 2> /dev/null &
pids+=($!)
sleep 1
for page in 1 2 large; do
	ip netns exec "$client" curl -s "http://10.1.0.2/$page.html" > /dev/null
done
ip netns exec "$client" curl -s -g "http://[fd00::2]/3.html" > /dev/null
ip netns exec "$client" python3 -c '
import socket
for host, family in (("10.1.0.2", socket.AF_INET), ("fd00::2", socket.AF_INET6)):
    s = socket.socket(family, socket.SOCK_DGRAM)
    for question in (b"who", b"what", b"when"):
        s.sendto(question, (host, 5300))
        s.recv(512)
'
# Nobody listens there: the answers are ICMP errors.
ip netns exec "$client" python3 -c '
import socket
for host, family in (("10.1.0.2", socket.AF_INET), ("fd00::2", socket.AF_INET6)):
    socket.socket(family, socket.SOCK_DGRAM).sendto(b"hello", (host, 9))
'
sleep 1
cp "$web/web.pcap" web.pcap
