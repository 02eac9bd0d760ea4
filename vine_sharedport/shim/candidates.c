#include "candidates.h"

static void add(struct plan *plan, const struct candidate *it)
{
    if (!it->port || plan->count == MAX_CANDIDATES) /* nobody has more that are worth a try */
        return;
    for (int i = 0; i < plan->count; i++)
        if (plan->list[i].port == it->port && same(plan->list[i].host, it->host))
            return;
    plan->list[plan->count++] = *it;
}

static int take_literal(void *plan, const char *text, size_t size)
{
    struct candidate it = {.port = 0};
    char host[MAX_HOST + 1];
    size_t dash = size;
    long port;

    while (dash && text[dash - 1] != '-')
        dash--;
    if (!dash || dash - 1 > MAX_HOST)
        return 0;
    port = read_number(text + dash, size - dash, 5, 65535);
    for (size_t i = 0; i < dash - 1; i++) /* the colons of IPv6 are dashes here */
        host[i] = text[i] == '-' ? ':' : text[i];
    it.port = (uint16_t)port;
    if (dash > 2 && host[0] == '[' && host[dash - 2] == ']') {
        if (!read_literal(&it, host + 1, dash - 3))
            return 0;
    } else if (!read_literal(&it, host, dash - 1)) {
        return 0;
    }
    if (port >= 0)
        add(plan, &it);
    return port >= 0;
}

/* RFC 8305, 4: the families in turn, the first one's first, each in its own order. */
static void add_interleaved(struct plan *plan, const struct plan *from)
{
    int next[2] = {0, 0};
    if (!from->count)
        return;
    for (int turn = 0, left = from->count; left; turn = !turn) {
        int *i = &next[turn];
        while (*i < from->count && (from->list[*i].family != from->list[0].family) != turn)
            ++*i;
        if (*i < from->count) {
            add(plan, &from->list[(*i)++]);
            left--;
        }
    }
}

/* Add what one address leads to; what is wrong with it, or NULL. */
static const char *add_address(struct plan *plan, const struct sinful *address)
{
    static struct plan literals;
    struct candidate alias = address->host;

    literals.count = 0;
    if (!for_each(address->addrs, "++", take_literal, &literals))
        return "its addrs cannot be read";
    add_interleaved(plan, &literals);
    if (address->has_port) {
        add(plan, &address->host);
        if (address->alias[0] && read_host_name(&alias, address->alias, length(address->alias)))
            add(plan, &alias);
    }
    return NULL;
}

const char *make_plan(struct plan *plan, const char *text, const char *network)
{
    static struct sinful address, private;
    const char *wrong = read_sinful(&address, text);

    plan->count = 0;
    if (!wrong)
        wrong = check_sock(address.sock);
    if (!wrong && address.private[0]) {
        wrong = read_sinful(&private, address.private);
        if (!wrong && private.has_private)
            wrong = "its PrivAddr has one inside";
        if (!wrong) {
            wrong = add_address(plan, &private);
            if (!network || !*network || !same(network, address.network))
                plan->count = 0; /* read for its errors alone */
        }
    }
    if (!wrong)
        wrong = add_address(plan, &address);
    if (!wrong && !plan->count)
        wrong = "it names no port to connect to";
    if (!wrong)
        memcpy(plan->sock, address.sock, length(address.sock) + 1);
    return wrong;
}
