/* The structural measures: what features.structural_features counts by expressions, counted in one pass. */
#include <math.h>
#include <string.h>

#include "reader.h"

static const char *const CONSTRAINTS[] = {
    "must",   "only",   "exactly", "at least", "at most", "no more than", "without",      "never",
    "always", "ensure", "should",  "each",     "every",   "step by step",
};
enum { N_CONSTRAINTS = sizeof CONSTRAINTS / sizeof *CONSTRAINTS };

static int is_word(const Reader *reader, uint32_t c) { return (reader->characters[c] & IS_WORD) != 0; }

static int is_space(const Reader *reader, uint32_t c) { return (reader->characters[c] & IS_SPACE) != 0; }

/* A capital of ASCII as its small letter. Other characters that the expressions take for one of ASCII's letters are
   handed over. */
static uint32_t lowered(uint32_t c) { return c - 'A' < 26 ? c + ('a' - 'A') : c; }

static int is_one_of(uint32_t c, const char *characters)
{
    return c != 0 && c < 0x80 && strchr(characters, (int)c) != NULL;
}

/* Length of the word or phrase of constraint that begins at `at`, where a word begins; 0 for none. */
static uint32_t constraint_at(const Reader *reader, uint32_t n, uint32_t at)
{
    const uint32_t *text = reader->text;
    uint32_t first = lowered(text[at]);
    if (!is_one_of(first, "moeanws"))
        return 0;
    for (int i = 0; i < N_CONSTRAINTS; i++) {
        const char *phrase = CONSTRAINTS[i];
        uint32_t length = 0;
        while (phrase[length] && at + length < n && lowered(text[at + length]) == (uint32_t)phrase[length])
            length++;
        if (!phrase[length] && (at + length == n || !is_word(reader, text[at + length])))
            return length;
    }
    return 0;
}

/* Whether the line that begins at `at` opens a lettered choice: blanks, "(" or not, A to J, one of ").:", a blank. */
static int is_choice(const Reader *reader, uint32_t n, uint32_t at)
{
    const uint32_t *text = reader->text;
    while (at < n && text[at] != '\n' && is_space(reader, text[at]))
        at++;
    if (at < n && text[at] == '(')
        at++;
    return at + 2 < n && lowered(text[at]) - 'a' < 10 && is_one_of(text[at + 1], ").:") &&
           is_space(reader, text[at + 2]);
}

Tally tally_of(const Reader *reader, uint32_t n)
{
    Tally tally = {0};
    int was_word = 0, was_space = 1;
    uint32_t constraints_from = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = reader->text[i];
        int is_in_word = is_word(reader, c), is_blank = is_space(reader, c);
        tally.words += was_space && !is_blank;
        if (is_in_word && !was_word && i >= constraints_from) {
            uint32_t length = constraint_at(reader, n, i);
            tally.constraints += length != 0;
            constraints_from = i + length;
        }
        if (i == 0 || reader->text[i - 1] == '\n')
            tally.choices += (uint32_t)is_choice(reader, n, i);
        was_word = is_in_word;
        was_space = is_blank;
        tally.n_bytes += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        if (c - 'a' < 26 || c == ' ')
            continue;
        tally.beyond_ascii += c >= 0x80;
        tally.capitals += c - 'A' < 26;
        tally.digits += c - '0' < 10;
        tally.lines += c == '\n';
        tally.questions += c == '?';
        tally.math += (uint32_t)is_one_of(c, "+*/=<>^%|~\\");
        tally.code += (uint32_t)is_one_of(c, "{}[];_#@`$");
    }
    return tally;
}

static float share(uint32_t part, uint32_t whole) { return (float)((double)part / (double)(whole ? whole : 1)); }

static float log_of(double count) { return (float)log1p(count); }

void measure(Reader *reader, uint32_t n, const Tally *tally, const Facts *facts)
{
    const float measures[N_MEASURES] = {
        log_of(reader->n_pieces),
        log_of(facts->n_bytes < 0 ? (double)tally->n_bytes : (double)facts->n_bytes),
        log_of(tally->lines),
        (float)log((double)facts->turns),
        share(reader->n_pieces, tally->words),
        share(tally->digits, n),
        share(tally->capitals, n),
        share(tally->beyond_ascii, n),
        share(tally->math, n),
        share(tally->code, n),
        log_of(tally->questions),
        log_of(tally->constraints),
        log_of(tally->choices),
        log_of((double)facts->tools),
        facts->wants_json ? 1.0f : 0.0f,
        log_of((double)facts->images),
    };
    memcpy(reader->measures, measures, sizeof measures);
}
