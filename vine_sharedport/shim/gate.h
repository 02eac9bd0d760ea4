/* The gate: both sides prove that they hold the manager's secret; see wire/gate.py. */
#ifndef VSP_GATE_H
#define VSP_GATE_H

/* What comes of trying a candidate; of all that fail, the greatest counts. */
enum outcome {
    THROUGH,
    UNREACHED,
    NOBODY,
    SILENT,
    NO_GATE,
    REFUSED,
    IMPOSTOR,
    ASKS_SECRET,
    INTERRUPTED,
};

/* What to tell of it; empty where errno says more. */
const char *meaning(enum outcome outcome);

/* Prove the secret on a connection; on UNREACHED *error is the errno. */
enum outcome pass_gate(int fd, long deadline, long *error);

/* Without a gate nobody answers; but where nobody serves, the end of stream comes at once. */
enum outcome see_whether_it_stays(int fd, long round_trip);

#endif
