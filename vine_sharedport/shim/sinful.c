#include "sinful.h"

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int is_name_character(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

long read_number(const char *text, size_t size, size_t digits, long limit)
{
    long value = 0;
    if (!size || size > digits)
        return -1;
    for (size_t i = 0; i < size; i++) {
        if (!is_digit(text[i]))
            return -1;
        value = 10 * value + text[i] - '0';
    }
    return value <= limit ? value : -1;
}

static int read_ipv4(const char *text, size_t size, unsigned char ip[4])
{
    size_t start = 0;
    for (int part = 0; part < 4; part++) {
        size_t end = start;
        while (end < size && text[end] != '.')
            end++;
        long value = read_number(text + start, end - start, 3, 255);
        if (value < 0 || (text[start] == '0' && end - start > 1)) /* octal, to some */
            return 0;
        if ((part < 3) != (end < size))
            return 0;
        ip[part] = (unsigned char)value;
        start = end + 1;
    }
    return 1;
}

/* RFC 4291, 2.2. */
static int read_ipv6(const char *text, size_t size, unsigned char ip[16])
{
    unsigned char groups[16];
    int count = 0, gap = -1;
    size_t at = 0;

    if (size >= 2 && text[0] == ':' && text[1] == ':') {
        gap = 0;
        at = 2;
    }
    while (at < size) {
        size_t start = at;
        unsigned value = 0;
        if (count == 8)
            return 0;
        for (; at < size && hex_value(text[at]) >= 0; at++) {
            if (at - start == 4)
                return 0;
            value = 16 * value + (unsigned)hex_value(text[at]);
        }
        if (at < size && text[at] == '.') { /* the last 32 bits as an IPv4 address */
            if (count > 6 || !read_ipv4(text + start, size - start, groups + 2 * count))
                return 0;
            count += 2;
            break;
        }
        if (at == start)
            return 0;
        groups[2 * count] = (unsigned char)(value >> 8);
        groups[2 * count + 1] = (unsigned char)value;
        count++;
        if (at == size)
            break;
        if (text[at++] != ':' || at == size)
            return 0;
        if (text[at] == ':') {
            if (gap >= 0)
                return 0;
            gap = count;
            at++;
        }
    }
    if (gap < 0 ? count != 8 : count > 7)
        return 0;
    if (gap < 0)
        gap = count;
    memset(ip, 0, 16);
    memcpy(ip, groups, (size_t)gap * 2);
    memcpy(ip + 16 - 2 * (count - gap), groups + 2 * gap, (size_t)(count - gap) * 2);
    return 1;
}

static int set_host(struct candidate *it, const char *text, size_t size)
{
    if (!size || size > MAX_HOST)
        return 0;
    memcpy(it->host, text, size);
    it->host[size] = 0;
    return 1;
}

int read_literal(struct candidate *it, const char *text, size_t size)
{
    it->family = 0;
    if (!set_host(it, text, size))
        return 0;
    if (read_ipv4(text, size, it->ip))
        it->family = AF_INET;
    else if (read_ipv6(text, size, it->ip))
        it->family = AF_INET6;
    return it->family != 0;
}

int read_host_name(struct candidate *it, const char *text, size_t size)
{
    size_t label = 0, last = 0, bare;
    int is_number = 1;

    if (!set_host(it, text, size))
        return 0;
    bare = size - (text[size - 1] == '.'); /* the root's dot */
    for (size_t at = 0; at <= bare; at++) {
        if (at == bare || text[at] == '.') {
            if (at == label || at - label > 63 || text[label] == '-' || text[at - 1] == '-')
                return 0;
            last = label;
            label = at + 1;
        } else if (!is_name_character(text[at]) && text[at] != '-') {
            return 0;
        }
    }
    /* "10.1" is 10.0.0.1 to some resolvers, and so is 0x0a000001. */
    for (size_t at = last; at < bare; at++)
        is_number &= is_digit(text[at]) || (text[last] == '0' && (text[last + 1] | 32) == 'x' &&
                                            (at == last + 1 || hex_value(text[at]) >= 0));
    if (is_number)
        return read_literal(it, text, size);
    it->family = 0;
    return 1;
}

/* Undo the percent-encoding; 0 if it is none, or hides what is not printable. */
static int decode(const char *text, size_t size, char *decoded)
{
    for (size_t at = 0; at < size; at++) {
        char c = text[at];
        if (c == '%') {
            if (size - at < 3 || hex_value(text[at + 1]) < 0 || hex_value(text[at + 2]) < 0)
                return 0;
            c = (char)(16 * hex_value(text[at + 1]) + hex_value(text[at + 2]));
            at += 2;
        }
        if (c < ' ' || c > '~')
            return 0;
        *decoded++ = c;
    }
    *decoded = 0;
    return 1;
}

static int read_location(struct sinful *address, const char *text, size_t size)
{
    size_t end = 0;
    long port;

    if (size && text[0] == '[') {
        while (end < size && text[end] != ']')
            end++;
        if (end == size || !read_literal(&address->host, text + 1, end - 1) ||
            address->host.family != AF_INET6)
            return 0;
        end++;
    } else {
        while (end < size && text[end] != ':')
            end++;
        if (!read_host_name(&address->host, text, end))
            return 0;
    }
    address->has_port = end < size;
    if (end == size)
        return 1;
    port = text[end] == ':' ? read_number(text + end + 1, size - end - 1, 5, 65535) : -1;
    address->host.port = (uint16_t)port;
    return port >= 0;
}

static int read_parameter(struct sinful *address, const char *text, size_t size)
{
    static char name[MAX_SINFUL + 1], unused[MAX_SINFUL + 1];
    size_t equals = 0;
    char *value = unused;

    while (equals < size && text[equals] != '=')
        equals++;
    if (!equals || !decode(text, equals, name))
        return 0;
    if (same(name, "sock"))
        value = address->sock;
    else if (same(name, "addrs"))
        value = address->addrs;
    else if (same(name, "PrivAddr"))
        value = address->private;
    else if (same(name, "PrivNet"))
        value = address->network;
    else if (same(name, "alias"))
        value = address->alias;
    address->has_private |= value == address->private;
    return equals < size ? decode(text + equals + 1, size - equals - 1, value)
                         : decode("", 0, value);
}

int for_each(const char *text, const char *separators,
             int (*take)(void *, const char *, size_t), void *context)
{
    for (size_t start = 0, at = 0;; at++) {
        if (!text[at] || text[at] == separators[0] || text[at] == separators[1]) {
            if (at > start && !take(context, text + start, at - start))
                return 0;
            start = at + 1;
        }
        if (!text[at])
            return 1;
    }
}

static int take_parameter(void *address, const char *text, size_t size)
{
    return read_parameter(address, text, size);
}

const char *read_sinful(struct sinful *address, const char *text)
{
    static char query[MAX_SINFUL + 1];
    size_t size = 0, mark = 1;

    while (size <= MAX_SINFUL && text[size])
        if (text[size] < '!' || text[size++] > '~')
            return "it has a blank, control or non-ASCII character; percent-encode it";
    if (size > MAX_SINFUL)
        return "it is longer than 16384 characters";
    if (size < 2 || text[0] != '<' || text[size - 1] != '>')
        return "write <host:port?sock=id>, with the angle brackets";
    memset(address, 0, offsetof(struct sinful, sock));
    address->sock[0] = address->addrs[0] = address->private[0] = 0;
    address->network[0] = address->alias[0] = 0;
    address->has_private = 0;
    while (mark < size - 1 && text[mark] != '?')
        mark++;
    if (!read_location(address, text + 1, mark - 1))
        return "its host or port is none";
    if (mark < size - 1) {
        memcpy(query, text + mark + 1, size - mark - 2);
        query[size - mark - 2] = 0;
        for (const char *c = query; *c; c++)
            if (*c == '<' || *c == '>' || *c == ',')
                return "it has a '<', '>' or ',' among its parameters";
        if (!for_each(query, "&;", take_parameter, address))
            return "a parameter cannot be read";
    }
    return NULL;
}

const char *check_sock(const char *sock)
{
    if (!*sock)
        return "it names no manager: it has no sock= parameter";
    if (length(sock) > MAX_SOCK)
        return "its sock id is longer than 41 characters";
    for (const char *c = sock; *c; c++)
        if (!is_name_character(*c) && *c != '.' && *c != '-')
            return "its sock id has a character other than letters, digits, '.', '_' and '-'";
    if (*sock == '.' || *sock == '-' || same(sock, "self"))
        return "its sock id is no manager's";
    return NULL;
}
