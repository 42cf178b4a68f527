/* Answers for libpcap: compiles filter expressions as a reader of a capture file would and runs them over packets.
 *
 *   oracle run DLT SNAPLEN EXPRESSIONS PACKETS   one line an expression: "refused MESSAGE", "endless" or "CODE BITMAP"
 *   oracle dump DLT SNAPLEN EXPRESSIONS          code of each expression, as tcpdump -d
 *   oracle compile DLT SNAPLEN EXPRESSIONS N     nanoseconds of one compilation, the least of N
 *   oracle match DLT SNAPLEN EXPRESSIONS PACKETS N   nanoseconds of one match, the least of N passes
 *
 * EXPRESSIONS: one a line. PACKETS: repeated little-endian u32 wire length, u32 captured length, bytes.
 */
#include <pcap.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct packet {
	uint32_t wire, captured;
	const unsigned char *bytes;
};

static unsigned char *file_bytes(const char *path, size_t *length)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		exit(3);
	}
	fseek(f, 0, SEEK_END);
	*length = (size_t)ftell(f);
	rewind(f);
	unsigned char *bytes = malloc(*length + 1);
	if (fread(bytes, 1, *length, f) != *length)
		exit(3);
	bytes[*length] = 0;
	fclose(f);
	return bytes;
}

static struct packet *packets_of(const char *path, size_t *count)
{
	size_t length, at = 0, room = 1024;
	unsigned char *bytes = file_bytes(path, &length);
	struct packet *packets = malloc(room * sizeof *packets);
	*count = 0;
	while (at + 8 <= length) {
		struct packet p;
		memcpy(&p.wire, bytes + at, 4);
		memcpy(&p.captured, bytes + at + 4, 4);
		p.bytes = bytes + at + 8;
		at += 8 + p.captured;
		if (*count == room)
			packets = realloc(packets, (room *= 2) * sizeof *packets);
		packets[(*count)++] = p;
	}
	return packets;
}

/* A reader of an empty capture file: libpcap treats a file otherwise than a live or a dead handle. */
static pcap_t *reader(uint32_t dlt, uint32_t snaplen)
{
	static unsigned char header[24];
	uint32_t magic = 0xa1b2c3d4, linktype = dlt == DLT_RAW ? 101 : dlt;
	uint16_t major = 2, minor = 4;
	char error[PCAP_ERRBUF_SIZE];
	memcpy(header, &magic, 4);
	memcpy(header + 4, &major, 2);
	memcpy(header + 6, &minor, 2);
	memcpy(header + 16, &snaplen, 4);
	memcpy(header + 20, &linktype, 4);
	pcap_t *p = pcap_fopen_offline(fmemopen(header, sizeof header, "rb"), error);
	if (!p) {
		fprintf(stderr, "oracle: %s\n", error);
		exit(3);
	}
	return p;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static sigjmp_buf too_long;

static void give_up(int signal)
{
	(void)signal;
	siglongjmp(too_long, 1);
}

static void run(pcap_t *p, const char *expression, const struct packet *packets, size_t count)
{
	struct bpf_program code;
	/* libpcap's protochain walks for ever along some chains of headers. */
	signal(SIGALRM, give_up);
	if (sigsetjmp(too_long, 1)) {
		printf("endless\n");
		return;
	}
	alarm(2);
	int refused = pcap_compile(p, &code, expression, 1, 0);
	if (refused) {
		/* Some messages have more than one line. */
		char *why = pcap_geterr(p);
		alarm(0);
		printf("refused %.*s\n", (int)strcspn(why, "\n"), why);
		return;
	}
	char *digits = malloc(count / 4 + 2), *end = digits;
	for (size_t i = 0; i < count; i += 4) {
		unsigned digit = 0;
		for (size_t j = i; j < i + 4 && j < count; j++)
			if (bpf_filter(code.bf_insns, packets[j].bytes, packets[j].wire, packets[j].captured))
				digit |= 1u << (j - i);
		*end++ = "0123456789abcdef"[digit];
	}
	*end = 0;
	alarm(0);
	for (unsigned i = 0; i < code.bf_len; i++) {
		struct bpf_insn *insn = &code.bf_insns[i];
		printf("%s%x.%x.%x.%x", i ? "," : "", insn->code, insn->jt, insn->jf, insn->k);
	}
	printf(" %s\n", digits);
	free(digits);
	pcap_freecode(&code);
}

static void compile_time(pcap_t *p, const char *expression, unsigned rounds)
{
	uint64_t least = UINT64_MAX;
	for (unsigned i = 0; i < rounds; i++) {
		struct bpf_program code;
		uint64_t start = now_ns();
		int refused = pcap_compile(p, &code, expression, 1, 0);
		uint64_t took = now_ns() - start;
		if (!refused)
			pcap_freecode(&code);
		if (took < least)
			least = took;
	}
	printf("%llu\n", (unsigned long long)least);
}

static void match_time(pcap_t *p, const char *expression, const struct packet *packets, size_t count, unsigned rounds)
{
	struct bpf_program code;
	uint64_t least = UINT64_MAX;
	unsigned accepted = 0;
	if (pcap_compile(p, &code, expression, 1, 0)) {
		printf("refused\n");
		return;
	}
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t start = now_ns();
		accepted = 0;
		for (size_t j = 0; j < count; j++)
			accepted += bpf_filter(code.bf_insns, packets[j].bytes, packets[j].wire, packets[j].captured) != 0;
		uint64_t took = now_ns() - start;
		if (took < least)
			least = took;
	}
	printf("%.3f %u\n", (double)least / (double)count, accepted);
	pcap_freecode(&code);
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	pcap_t *p = reader((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]));
	size_t length, count = 0;
	char *line = (char *)file_bytes(argv[4], &length), *end = line + length;
	struct packet *packets = NULL;
	if (!strcmp(argv[1], "run") || !strcmp(argv[1], "match"))
		packets = packets_of(argv[5], &count);
	while (line < end) {
		char *newline = strchr(line, '\n');
		if (newline)
			*newline = 0;
		if (!strcmp(argv[1], "run")) {
			run(p, line, packets, count);
		} else if (!strcmp(argv[1], "compile")) {
			compile_time(p, line, (unsigned)atoi(argv[5]));
		} else if (!strcmp(argv[1], "match")) {
			match_time(p, line, packets, count, (unsigned)atoi(argv[6]));
		} else {
			struct bpf_program code;
			/* The optimiser is off for "raw", to show what an expression means before it is improved. */
			if (pcap_compile(p, &code, line, strcmp(argv[1], "raw") != 0, 0)) {
				printf("refused %s\n", pcap_geterr(p));
			} else {
				bpf_dump(&code, 1);
				pcap_freecode(&code);
			}
			printf("\n");
		}
		if (!newline)
			break;
		line = newline + 1;
	}
	return 0;
}
