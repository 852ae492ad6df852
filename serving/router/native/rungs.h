/* The heads of the rungs between, of a ladder: their weights, and p of each from what one read found. */
#ifndef TURNOUT_RUNGS_H
#define TURNOUT_RUNGS_H

#include <stddef.h>

#include "reader.h"

enum { MAX_RUNGS = 8, N_LOGS = 64 };

/* What `weights.py` gives, in its order. */
enum {
    RUNG_BUCKETS,    /* uint16: of each bucket its level of idf, then the weight of each rung, a float of 16 bits */
    RUNG_IDF,        /* float: idf of each level */
    RUNG_STRUCTURAL, /* float: mean of each measure, factor of each, lowest, highest, weights by measure and rung */
    RUNG_LINES,      /* float: slope of each rung, start of each, least length, lowest and highest p */
    N_RUNG_WEIGHTS,
};

typedef struct {
    const char *weights[N_RUNG_WEIGHTS]; /* not aligned */
    int n_rungs;                         /* 0: none are held */
} Rungs;

/* Take weights of these sizes in bytes; 0 where they do not belong together, or a bucket names a level that is not there. */
int take_rungs(Rungs *rungs, const char *const weights[N_RUNG_WEIGHTS], const size_t sizes[N_RUNG_WEIGHTS]);

/* Put calibrated p of each rung into `p`; `log_of_count` is 1 + log(count) of counts below N_LOGS. */
void p_of_rungs(const Rungs *rungs, const Reader *reader, const float log_of_count[N_LOGS], float p[MAX_RUNGS]);

#endif
