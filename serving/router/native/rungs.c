/* p of the rungs between: what `rungs.onnx` computes, from n-grams and measures that are read already.

   A bucket's level and its weights lie side by side, so that it is one cache line; nothing is allocated. */
#include <math.h>
#include <string.h>

#include "rungs.h"

static float number_at(const char *start, size_t place)
{
    float value;
    memcpy(&value, start + place * sizeof value, sizeof value);
    return value;
}

static uint16_t half_at(const char *start, size_t place)
{
    uint16_t value;
    memcpy(&value, start + place * sizeof value, sizeof value);
    return value;
}

/* A float of 16 bits (IEEE 754 binary16) that is finite: its exponent is moved from one bias to the other, which holds
   for numbers below the normal ones too. */
static float widened(uint16_t half)
{
    uint32_t bits = (uint32_t)(half & 0x7fff) << 13;
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude *= 0x1p112f;
    return half & 0x8000 ? -magnitude : magnitude;
}

int take_rungs(Rungs *rungs, const char *const weights[N_RUNG_WEIGHTS], const size_t sizes[N_RUNG_WEIGHTS])
{
    size_t of_bucket = sizes[RUNG_BUCKETS] / (N_BUCKETS * sizeof(uint16_t)), n = of_bucket - 1;
    size_t n_levels = sizes[RUNG_IDF] / sizeof(float);
    if (of_bucket < 2 || n > MAX_RUNGS || sizes[RUNG_BUCKETS] != of_bucket * N_BUCKETS * sizeof(uint16_t) ||
        sizes[RUNG_STRUCTURAL] != (2 * N_MEASURES + 2 + N_MEASURES * n) * sizeof(float) ||
        sizes[RUNG_LINES] != (2 * n + 3) * sizeof(float))
        return 0;
    for (size_t bucket = 0; bucket < N_BUCKETS; bucket++) {
        if (half_at(weights[RUNG_BUCKETS], bucket * of_bucket) >= n_levels)
            return 0;
        for (size_t r = 1; r < of_bucket; r++)
            if ((half_at(weights[RUNG_BUCKETS], bucket * of_bucket + r) & 0x7c00) == 0x7c00)
                return 0; /* infinite, or no number */
    }
    memcpy(rungs->weights, weights, sizeof rungs->weights);
    rungs->n_rungs = (int)n;
    return 1;
}

static float within(float value, float low, float high) { return value < low ? low : value > high ? high : value; }

void p_of_rungs(const Rungs *rungs, const Reader *reader, const float log_of_count[N_LOGS], float p[MAX_RUNGS])
{
    const char *buckets = rungs->weights[RUNG_BUCKETS], *idf = rungs->weights[RUNG_IDF];
    const char *structural = rungs->weights[RUNG_STRUCTURAL], *lines = rungs->weights[RUNG_LINES];
    size_t n = (size_t)rungs->n_rungs;
    double squares = 0, sums[MAX_RUNGS] = {0}, inner[MAX_RUNGS] = {0};
    for (uint32_t i = 0; i < reader->n_buckets; i++) {
        size_t row = (size_t)reader->buckets[i] * (1 + n);
        uint32_t count = reader->counts[i];
        float frequency = count < N_LOGS ? log_of_count[count] : logf((float)count) + 1.0f;
        float weighted = frequency * number_at(idf, half_at(buckets, row));
        squares += (double)(weighted * weighted);
        for (size_t r = 0; r < n; r++)
            sums[r] += (double)(widened(half_at(buckets, row + 1 + r)) * weighted);
    }
    float low = number_at(structural, 2 * N_MEASURES), high = number_at(structural, 2 * N_MEASURES + 1);
    for (size_t m = 0; m < N_MEASURES; m++) {
        float scaled = (reader->measures[m] - number_at(structural, m)) * number_at(structural, N_MEASURES + m);
        scaled = within(scaled, low, high);
        for (size_t r = 0; r < n; r++)
            inner[r] += (double)scaled * (double)number_at(structural, 2 * N_MEASURES + 2 + m * n + r);
    }
    float length = sqrtf((float)squares), least = number_at(lines, 2 * n);
    length = length > least ? length : least;
    for (size_t r = 0; r < n; r++) {
        float odds = (float)sums[r] / length * number_at(lines, r) + (float)inner[r] + number_at(lines, n + r);
        float said = (float)(1.0 / (1.0 + exp(-(double)odds)));
        p[r] = within(said, number_at(lines, 2 * n + 1), number_at(lines, 2 * n + 2));
    }
}
