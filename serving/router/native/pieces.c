/* From characters to word pieces, and from pieces to hashed n-grams: what `tokenizers` and features.py give. */
#include <string.h>

#include "reader.h"

static const uint32_t WORD_SEED = 0x811c9dc5u, CONTINUATION_SEED = 0x2b5e1a97u, PRIME = 16777619u;
enum { MAX_WORD_CHARS = 100, MAX_WORD_BYTES = 4 * MAX_WORD_CHARS };

typedef struct {
    char bytes[MAX_WORD_BYTES];
    uint32_t length, n_chars, hash;
} Word;

static uint32_t hashed(uint32_t hash, char byte) { return (hash ^ (uint8_t)byte) * PRIME; }

static uint32_t slot_of(uint32_t hash) { return hash ^ (hash >> 15); }

static const Token *find(const Vocabulary *vocabulary, const char *bytes, uint32_t length, int is_continuation,
                         uint32_t hash)
{
    for (uint32_t at = slot_of(hash) & vocabulary->mask;; at = (at + 1) & vocabulary->mask) {
        const Token *token = &vocabulary->slots[at];
        if (token->length == 0)
            return NULL;
        if (token->hash == hash && token->length == length && token->is_continuation == is_continuation &&
            memcmp(token->bytes, bytes, length) == 0)
            return token;
    }
}

int add_token(Vocabulary *vocabulary, const char *bytes, size_t length, int is_continuation, uint16_t id)
{
    if (length == 0 || length > MAX_TOKEN_BYTES)
        return 0;
    uint32_t hash = is_continuation ? CONTINUATION_SEED : WORD_SEED;
    for (size_t i = 0; i < length; i++)
        hash = hashed(hash, bytes[i]);
    if (find(vocabulary, bytes, (uint32_t)length, is_continuation, hash) != NULL)
        return 0;
    uint32_t at = slot_of(hash) & vocabulary->mask;
    while (vocabulary->slots[at].length != 0)
        at = (at + 1) & vocabulary->mask;
    Token *token = &vocabulary->slots[at];
    token->hash = hash;
    token->id = id;
    token->length = (uint8_t)length;
    token->is_continuation = (uint8_t)is_continuation;
    memcpy(token->bytes, bytes, length);
    if (length > vocabulary->longest)
        vocabulary->longest = (uint32_t)length;
    return 1;
}

/* Append a character as UTF-8. Of a word that is too long only the characters are counted. */
static void append(Word *word, uint32_t code_point)
{
    char *end = word->bytes + word->length;
    word->n_chars++;
    if (word->n_chars > MAX_WORD_CHARS)
        return;
    if (code_point < 0x80) {
        end[0] = (char)code_point;
        word->hash = hashed(word->hash, end[0]);
        word->length++;
        return;
    }
    uint32_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (uint32_t i = n - 1; i > 0; i--, code_point >>= 6)
        end[i] = (char)(0x80 | (code_point & 0x3f));
    end[0] = (char)(first[n] | code_point);
    for (uint32_t i = 0; i < n; i++)
        word->hash = hashed(word->hash, end[i]);
    word->length += n;
}

static void append_hangul(Word *word, uint32_t syllable)
{
    uint32_t place = syllable - 0xac00;
    append(word, 0x1100 + place / (21 * 28));
    append(word, 0x1161 + place / 28 % 21);
    if (place % 28)
        append(word, 0x11a7 + place % 28);
}

/* Split a word that the vocabulary lacks: the longest token that begins it, then the longest that goes on, and so on;
   one unknown piece where that does not come out even. Tokens are whole characters, and so are all cuts. */
static void split(Reader *reader, const Word *word)
{
    const Vocabulary *vocabulary = &reader->vocabulary;
    uint32_t n_before = reader->n_pieces;
    for (uint32_t start = 0; start < word->length;) {
        uint32_t prefixes[MAX_TOKEN_BYTES], hash = start ? CONTINUATION_SEED : WORD_SEED;
        uint32_t n = word->length - start;
        const Token *found = NULL;
        if (n > vocabulary->longest)
            n = vocabulary->longest;
        for (uint32_t i = 0; i < n; i++)
            prefixes[i] = hash = hashed(hash, word->bytes[start + i]);
        for (; n > 0 && found == NULL; n--)
            found = find(vocabulary, word->bytes + start, n, start != 0, prefixes[n - 1]);
        if (found == NULL) {
            reader->n_pieces = n_before;
            reader->pieces[reader->n_pieces++] = vocabulary->unknown;
            return;
        }
        reader->pieces[reader->n_pieces++] = found->id;
        start += found->length;
    }
}

static void end_word(Reader *reader, Word *word)
{
    const Vocabulary *vocabulary = &reader->vocabulary;
    if (word->n_chars > vocabulary->max_chars) {
        reader->pieces[reader->n_pieces++] = vocabulary->unknown;
    } else if (word->n_chars != 0) {
        const Token *whole = find(vocabulary, word->bytes, word->length, 0, word->hash);
        if (whole != NULL)
            reader->pieces[reader->n_pieces++] = whole->id;
        else
            split(reader, word);
    }
    word->length = word->n_chars = 0;
    word->hash = WORD_SEED;
}

int read_text(Reader *reader, uint32_t n, const Facts *facts)
{
    Word word;
    word.length = word.n_chars = 0;
    word.hash = WORD_SEED;
    reader->n_pieces = 0;
    if (facts != NULL && facts->turns < 1)
        return NOT_READ;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t c = reader->text[i];
        if (c >= N_CODE_POINTS)
            return NOT_READ;
        uint32_t entry = reader->characters[c];
        switch (entry >> KIND_SHIFT & 7) {
        case UNTAUGHT:
            return (int)(c / BLOCK);
        case DROPPED:
            break;
        case BREAK:
            end_word(reader, &word);
            break;
        case LETTER:
            append(&word, entry & CODE_POINT);
            break;
        case ALONE:
            end_word(reader, &word);
            append(&word, entry & CODE_POINT);
            end_word(reader, &word);
            break;
        case HANGUL:
            append_hangul(&word, c);
            break;
        default:
            return NOT_READ;
        }
    }
    end_word(reader, &word);
    count_ngrams(reader);
    if (facts != NULL) {
        Tally tally = tally_of(reader, n);
        measure(reader, n, &tally, facts);
    }
    return READ;
}

static uint32_t bucket_of(uint32_t key) { return (key * 2654435769u) >> (32 - BUCKET_BITS); }

/* Sort by two passes of nine bits; numbers are below N_BUCKETS. */
static void sort_buckets(uint32_t *numbers, uint32_t *spare, uint32_t n)
{
    enum { BITS = BUCKET_BITS / 2, RADIX = 1 << BITS };
    for (int shift = 0; shift < BUCKET_BITS; shift += BITS) {
        uint32_t starts[RADIX] = {0}, next = 0;
        for (uint32_t i = 0; i < n; i++)
            starts[numbers[i] >> shift & (RADIX - 1)]++;
        for (uint32_t i = 0; i < RADIX; i++) {
            uint32_t count = starts[i];
            starts[i] = next;
            next += count;
        }
        for (uint32_t i = 0; i < n; i++)
            spare[starts[numbers[i] >> shift & (RADIX - 1)]++] = numbers[i];
        memcpy(numbers, spare, n * sizeof *numbers);
    }
}

void count_ngrams(Reader *reader)
{
    const uint16_t *pieces = reader->pieces;
    uint32_t n = reader->n_pieces, n_ngrams = 0, before = 0, skipped = 0;
    if (n > 2 * LEXICAL_END) {
        skipped = n - 2 * LEXICAL_END;
        n = 2 * LEXICAL_END;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = pieces[i < LEXICAL_END ? i : i + skipped];
        reader->ngrams[n_ngrams++] = bucket_of(id);
        if (i > 0)
            reader->ngrams[n_ngrams++] = bucket_of(((before + 1) << 15) + id);
        before = id;
    }
    sort_buckets(reader->ngrams, reader->spare, n_ngrams);
    reader->n_buckets = 0;
    for (uint32_t i = 0; i < n_ngrams; i++) {
        if (i == 0 || reader->ngrams[i] != reader->ngrams[i - 1]) {
            reader->buckets[reader->n_buckets] = reader->ngrams[i];
            reader->counts[reader->n_buckets++] = 1;
        } else {
            reader->counts[reader->n_buckets - 1]++;
        }
    }
}
