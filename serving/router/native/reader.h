/* What the three files of the fast head share: limits, the table of characters, the vocabulary, and what one read finds.

   Every array has a fixed size, which follows from the most characters that are read: nothing grows with the input.
   All of it is used under the interpreter's lock, one read at a time. */
#ifndef TURNOUT_READER_H
#define TURNOUT_READER_H

#include <stddef.h>
#include <stdint.h>

enum {
    MAX_CHARS = 8193,         /* features.HEAD_CHARS + TAIL_CHARS, and the line break between them */
    MAX_PIECES = 3 * MAX_CHARS, /* a Hangul syllable is three letters, and each may be a piece of its own */
    LEXICAL_END = 1024,       /* features.LEXICAL_HEAD and LEXICAL_TAIL */
    MAX_NGRAMS = 4 * LEXICAL_END,
    BUCKET_BITS = 18,
    N_BUCKETS = 1 << BUCKET_BITS,
    N_MEASURES = 16,
    N_CODE_POINTS = 0x20000,  /* planes 0 and 1; other characters are handed over */
    BLOCK = 256,              /* characters that are taught at once */
    MAX_TOKEN_BYTES = 22,
};

/* A character: what becomes of it in the tokenizer, and two facts that Python's expressions ask for.
   Bits 0 to 20 hold the character that it turns into, bits 21 to 23 its kind. */
enum {
    UNTAUGHT = 0,  /* not known yet: the caller is asked to teach its block */
    HAND_OVER = 1, /* not read here: the whole text goes to the Python path */
    DROPPED = 2,   /* cleaned away, or an accent */
    BREAK = 3,     /* white space: ends a word */
    LETTER = 4,    /* part of a word, as the character in bits 0 to 20 */
    ALONE = 5,     /* a word of its own: a sign, an ideograph */
    HANGUL = 6,    /* two or three letters, by the Unicode Standard's arithmetic (section 3.12) */
    KIND_SHIFT = 21,
    CODE_POINT = (1 << KIND_SHIFT) - 1,
    IS_SPACE = 1 << 24, /* str.isspace, and \s */
    IS_WORD = 1 << 25,  /* \w */
};

typedef struct {
    uint32_t hash;
    uint16_t id;
    uint8_t length; /* 0: the slot is free */
    uint8_t is_continuation;
    char bytes[MAX_TOKEN_BYTES + 2];
} Token;

typedef struct {
    Token *slots;
    uint32_t mask;      /* slots - 1; a power of two, at least twice the tokens */
    uint32_t longest;   /* bytes of the longest token */
    uint32_t max_chars; /* a longer word is one unknown piece */
    uint16_t unknown;
} Vocabulary;

typedef struct {
    uint32_t characters[N_CODE_POINTS];
    Vocabulary vocabulary;
    uint32_t text[MAX_CHARS];
    uint16_t pieces[MAX_PIECES];
    uint32_t n_pieces;
    uint32_t ngrams[MAX_NGRAMS];  /* sorted buckets, one for each n-gram */
    uint32_t spare[MAX_NGRAMS];   /* for sorting */
    uint32_t buckets[MAX_NGRAMS]; /* distinct, ascending */
    uint32_t counts[MAX_NGRAMS];
    uint32_t n_buckets;
    float measures[N_MEASURES];
} Reader;

/* What the request says beside its text; `n_bytes` below 0: count those of the text that is read. */
typedef struct {
    int64_t n_bytes, turns, tools, images;
    int wants_json;
} Facts;

enum { READ = -1, NOT_READ = -2 };

/* Read `n` characters of `text`: pieces, n-grams and, where `facts` is given, measures.
   Returns READ, NOT_READ for what has to be handed over, or the number of a block of characters to be taught first. */
int read_text(Reader *reader, uint32_t n, const Facts *facts);

/* Put a token into the vocabulary; 0 where it is too long, empty or there already. */
int add_token(Vocabulary *vocabulary, const char *bytes, size_t length, int is_continuation, uint16_t id);

/* Hash the uni- and bigrams of the pieces, and count each bucket. */
void count_ngrams(Reader *reader);

typedef struct {
    uint32_t n_bytes, lines, words, questions, digits, capitals, beyond_ascii, math, code, constraints, choices;
} Tally;

/* Count in `n` characters of `text`, all of which are taught, what the measures are made of. */
Tally tally_of(const Reader *reader, uint32_t n);

/* Turn counts into the vector of features.STRUCTURAL. */
void measure(Reader *reader, uint32_t n, const Tally *tally, const Facts *facts);

#endif
