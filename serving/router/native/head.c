/* The fast head of a router graph, for `native_head.py`: what the first stage of the graph computes, in the graph's precision.

   Python gives the weights, teaches the characters, and holds the results against the graph before it trusts them.
   The module is of CPython's stable interface; nothing here calls Python code, and the lock is kept: a run takes less
   time than another thread would wait to give it back. */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <string.h>

#include "reader.h"
#include "rungs.h"

enum { MAX_CLASSES = 8 };
enum { LINE = 0, BETA = 1, ISOTONIC = 2 };

/* What `weights.py` gives, in its order; the last three are double, all others float. */
enum {
    BUCKETS,       /* for each bucket: idf, then the weight of each class */
    CLASSES,       /* for each class: 1 where it is a match, else 0 */
    STRUCTURAL,    /* mean of each measure, factor of each, lowest, highest, weights by measure and class */
    INTERCEPT,     /* of each class */
    CALIBRATOR,    /* by kind: slope, start; match slope, miss slope, start; start, then knots, gaps and slopes */
    LIMITS,        /* lowest and highest log-odds, least length, rare idf, largest share of rare n-grams */
    BAND_EDGES,    /* ascending log-odds */
    HALF_WIDTHS,   /* one more than edges */
    PROBABILITIES, /* lowest and highest threshold */
    N_WEIGHTS,
};

typedef struct {
    PyObject *owner; /* bytes */
    const char *start;
    Py_ssize_t n; /* numbers */
} Numbers;

typedef struct {
    PyObject_HEAD
    Reader *reader;
    Numbers weights[N_WEIGHTS];
    int n_classes, calibrator_kind;
    uint32_t first, last, head, tail; /* [CLS], [SEP], and the pieces that the encoder reads of either end */
    float log_of_count[N_LOGS];       /* 1 + log(count) */
    Rungs rungs;
    PyObject *rung_weights; /* owns what `rungs` points into; NULL: none */
} Head;

static float at(const Numbers *numbers, Py_ssize_t place)
{
    float value;
    memcpy(&value, numbers->start + place * (Py_ssize_t)sizeof value, sizeof value);
    return value;
}

static double double_at(const Numbers *numbers, Py_ssize_t place)
{
    double value;
    memcpy(&value, numbers->start + place * (Py_ssize_t)sizeof value, sizeof value);
    return value;
}

static float clipped(float value, float low, float high) { return value < low ? low : value > high ? high : value; }

static float softplus(float x) { return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)); }

/* log(sum(exp)) of the classes that are matches, or of those that are not. */
static float log_sum_exp(const Head *head, const float *logits, float matches)
{
    float largest = -INFINITY;
    double sum = 0;
    for (int c = 0; c < head->n_classes; c++)
        if (at(&head->weights[CLASSES], c) == matches && logits[c] > largest)
            largest = logits[c];
    for (int c = 0; c < head->n_classes; c++)
        if (at(&head->weights[CLASSES], c) == matches)
            sum += exp((double)logits[c] - (double)largest);
    return (float)((double)largest + log(sum));
}

static float calibrated(const Head *head, float raw)
{
    const Numbers *of = &head->weights[CALIBRATOR];
    if (head->calibrator_kind == LINE)
        return raw * at(of, 0) + at(of, 1);
    if (head->calibrator_kind == BETA)
        return softplus(raw) * at(of, 1) - softplus(-raw) * at(of, 0) + at(of, 2);
    Py_ssize_t n = (of->n - 1) / 3;
    double rise = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        float beyond = raw - at(of, 1 + i), gap = at(of, 1 + n + i);
        beyond = beyond > 0 ? beyond : 0;
        rise += (double)((beyond < gap ? beyond : gap) * at(of, 1 + 2 * n + i));
    }
    return (float)rise + at(of, 0);
}

typedef struct {
    float odds;
    int is_unlike;
} Scored;

static Scored score(const Head *head)
{
    const Reader *reader = head->reader;
    const Numbers *weights = head->weights;
    int n_classes = head->n_classes;
    float rare_idf = at(&weights[LIMITS], 3), logits[MAX_CLASSES];
    double squares = 0, sums[MAX_CLASSES] = {0};
    uint32_t n_rare = 0;
    for (uint32_t i = 0; i < reader->n_buckets; i++) {
        Py_ssize_t row = (Py_ssize_t)reader->buckets[i] * (1 + n_classes);
        uint32_t count = reader->counts[i];
        float frequency = count < N_LOGS ? head->log_of_count[count] : logf((float)count) + 1.0f;
        float idf = at(&weights[BUCKETS], row), weighted = frequency * idf;
        squares += (double)(weighted * weighted);
        for (int c = 0; c < n_classes; c++)
            sums[c] += (double)(at(&weights[BUCKETS], row + 1 + c) * weighted);
        n_rare += idf >= rare_idf;
    }
    float length = sqrtf((float)squares), least = at(&weights[LIMITS], 2);
    length = length > least ? length : least;
    const Numbers *structural = &weights[STRUCTURAL];
    float low = at(structural, 2 * N_MEASURES), high = at(structural, 2 * N_MEASURES + 1);
    double inner[MAX_CLASSES] = {0};
    for (int m = 0; m < N_MEASURES; m++) {
        float scaled = (reader->measures[m] - at(structural, m)) * at(structural, N_MEASURES + m);
        scaled = clipped(scaled, low, high);
        for (int c = 0; c < n_classes; c++)
            inner[c] += (double)scaled * (double)at(structural, 2 * N_MEASURES + 2 + m * n_classes + c);
    }
    for (int c = 0; c < n_classes; c++)
        logits[c] = (float)sums[c] / length + (float)inner[c] + at(&weights[INTERCEPT], c);
    float raw = n_classes == 1 ? logits[0] : log_sum_exp(head, logits, 1.0f) - log_sum_exp(head, logits, 0.0f);
    float distinct = (float)(reader->n_buckets ? reader->n_buckets : 1);
    Scored scored = {
        clipped(calibrated(head, raw), at(&weights[LIMITS], 0), at(&weights[LIMITS], 1)),
        (float)n_rare / distinct > at(&weights[LIMITS], 4),
    };
    return scored;
}

/* Whether log-odds lie in the exit band around a threshold, so that the second stage has to look. */
static int is_near(const Numbers *weights, float odds, double threshold)
{
    double low = double_at(&weights[PROBABILITIES], 0), high = double_at(&weights[PROBABILITIES], 1);
    threshold = threshold < low ? low : threshold > high ? high : threshold;
    double threshold_odds = log(threshold / (1.0 - threshold));
    Py_ssize_t step = 0;
    for (Py_ssize_t i = 0; i < weights[BAND_EDGES].n; i++)
        step += threshold_odds > double_at(&weights[BAND_EDGES], i);
    return fabs((double)odds - threshold_odds) <= double_at(&weights[HALF_WIDTHS], step);
}

/* Copy the text into the reader; its length, 0xffffffff for one that is too long, and an error set on failure. */
static uint32_t take(Reader *reader, PyObject *text)
{
    Py_ssize_t n = PyUnicode_Check(text) ? PyUnicode_GetLength(text) : -1;
    if (n < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "text: expected str");
        return UINT32_MAX;
    }
    if (n > MAX_CHARS || (n > 0 && PyUnicode_AsUCS4(text, reader->text, MAX_CHARS, 0) == NULL))
        return UINT32_MAX;
    return (uint32_t)n;
}

/* Read a text; 1 where it was read, else 0 with what the caller returns in `answer` (NULL: an error is set). */
static int read_into(Reader *reader, PyObject *text, const Facts *facts, PyObject **answer)
{
    uint32_t n = take(reader, text);
    *answer = NULL;
    if (n == UINT32_MAX && PyErr_Occurred())
        return 0;
    int found = n == UINT32_MAX ? NOT_READ : read_text(reader, n, facts);
    if (found == READ)
        return 1;
    *answer = found == NOT_READ ? Py_NewRef(Py_None) : PyLong_FromLong(found);
    return 0;
}

static PyObject *as_int64(const uint32_t *numbers, Py_ssize_t n)
{
    PyObject *made = PyBytes_FromStringAndSize(NULL, n * (Py_ssize_t)sizeof(int64_t));
    char *start = made == NULL ? NULL : PyBytes_AsString(made);
    for (Py_ssize_t i = 0; start != NULL && i < n; i++) {
        int64_t wide = numbers[i];
        memcpy(start + i * (Py_ssize_t)sizeof wide, &wide, sizeof wide);
    }
    return made;
}

static PyObject *counts_as_float(const Reader *reader)
{
    float counts[MAX_NGRAMS];
    for (uint32_t i = 0; i < reader->n_buckets; i++)
        counts[i] = (float)reader->counts[i];
    return PyBytes_FromStringAndSize((const char *)counts, (Py_ssize_t)(reader->n_buckets * sizeof *counts));
}

static PyObject *token_ids(const Head *head)
{
    const Reader *reader = head->reader;
    uint32_t ids[2 + 2 * LEXICAL_END], n = 0, whole = head->head + head->tail;
    uint32_t n_read = reader->n_pieces < whole ? reader->n_pieces : whole;
    ids[n++] = head->first;
    for (uint32_t i = 0; i < n_read; i++)
        ids[n++] = reader->pieces[i < head->head || n_read < whole ? i : i + reader->n_pieces - whole];
    ids[n++] = head->last;
    return as_int64(ids, (Py_ssize_t)n);
}

/* Calibrated p of each rung between; an empty tuple where none are held. */
static PyObject *p_rungs(const Head *head, const float *p)
{
    PyObject *found = PyTuple_New(head->rungs.n_rungs);
    if (found == NULL || head->rungs.n_rungs == 0)
        return found;
    for (int r = 0; r < head->rungs.n_rungs; r++) {
        PyObject *one = PyFloat_FromDouble((double)p[r]);
        if (one == NULL || PyTuple_SetItem(found, r, one) < 0) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
}

PyDoc_STRVAR(look_doc,
             "look(text, n_bytes, turns, tools, wants_json, images, threshold, also, wants_features)\n--\n\n"
             "Return p_match, whether it is left open, whether it is unlike, the measures, the features or None, and p of rungs.\n\n"
             "None where the text is not read here; a number of the block of characters that has to be taught first.");

static PyObject *head_look(PyObject *self, PyObject *args)
{
    Head *head = (Head *)self;
    PyObject *text, *answer;
    Facts facts;
    double threshold, also;
    int wants_features;
    if (!PyArg_ParseTuple(args, "OLLLpLddp", &text, &facts.n_bytes, &facts.turns, &facts.tools, &facts.wants_json,
                          &facts.images, &threshold, &also, &wants_features) ||
        !read_into(head->reader, text, &facts, &answer))
        return PyErr_Occurred() ? NULL : answer;
    Scored scored = score(head);
    int is_open = is_near(head->weights, scored.odds, threshold);
    if (!is_open && !isnan(also))
        is_open = is_near(head->weights, scored.odds, also);
    float p_match = (float)(1.0 / (1.0 + exp(-(double)scored.odds)));
    float p[MAX_RUNGS]; /* said before a tuple is made, which may collect garbage, and so run code that looks again */
    if (head->rungs.n_rungs > 0)
        p_of_rungs(&head->rungs, head->reader, head->log_of_count, p);
    PyObject *measures = PyBytes_FromStringAndSize((const char *)head->reader->measures, sizeof head->reader->measures);
    if (wants_features || is_open) {
        PyObject *tokens = token_ids(head);
        PyObject *buckets = as_int64(head->reader->buckets, (Py_ssize_t)head->reader->n_buckets);
        PyObject *counts = counts_as_float(head->reader);
        return Py_BuildValue("dOON(NNN)N", (double)p_match, is_open ? Py_True : Py_False,
                             scored.is_unlike ? Py_True : Py_False, measures, tokens, buckets, counts,
                             p_rungs(head, p));
    }
    return Py_BuildValue("dOONON", (double)p_match, Py_False, scored.is_unlike ? Py_True : Py_False, measures, Py_None,
                         p_rungs(head, p));
}

PyDoc_STRVAR(ngrams_doc, "ngrams(text)\n--\n\nReturn buckets and counts of a text; otherwise as look.");

static PyObject *head_ngrams(PyObject *self, PyObject *text)
{
    Reader *reader = ((Head *)self)->reader;
    PyObject *answer;
    if (!read_into(reader, text, NULL, &answer))
        return answer;
    return Py_BuildValue("NN", as_int64(reader->buckets, (Py_ssize_t)reader->n_buckets), counts_as_float(reader));
}

PyDoc_STRVAR(teach_doc, "teach(block, entries)\n--\n\nTake the entries of a block of 256 characters, uint32 each.");

static PyObject *head_teach(PyObject *self, PyObject *args)
{
    unsigned int block;
    const char *entries;
    Py_ssize_t size;
    uint32_t *characters = ((Head *)self)->reader->characters;
    if (!PyArg_ParseTuple(args, "Iy#", &block, &entries, &size))
        return NULL;
    if (block >= N_CODE_POINTS / BLOCK || size != BLOCK * (Py_ssize_t)sizeof *characters) {
        PyErr_SetString(PyExc_ValueError, "teach: expected a block of planes 0 and 1, and 256 entries");
        return NULL;
    }
    memcpy(characters + block * BLOCK, entries, (size_t)size);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_rungs_doc, "take_rungs(weights)\n--\n\nHold the heads of the rungs between; of an empty tuple, none.");

static PyObject *head_take_rungs(PyObject *self, PyObject *given)
{
    Head *head = (Head *)self;
    const char *weights[N_RUNG_WEIGHTS];
    size_t sizes[N_RUNG_WEIGHTS];
    Py_ssize_t n = PyTuple_Size(given);
    if (n < 0)
        return NULL;
    if (n != 0 && n != N_RUNG_WEIGHTS) {
        PyErr_SetString(PyExc_ValueError, "weights of rungs: expected 4, or none");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        char *start;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, i), &start, &size) < 0)
            return NULL;
        weights[i] = start;
        sizes[i] = (size_t)size;
    }
    if (n != 0 && !take_rungs(&head->rungs, weights, sizes)) {
        PyErr_SetString(PyExc_ValueError, "weights of rungs: sizes or numbers that do not belong together");
        return NULL;
    }
    if (n == 0)
        head->rungs.n_rungs = 0;
    Py_XDECREF(head->rung_weights);
    head->rung_weights = n == 0 ? NULL : Py_NewRef(given);
    Py_RETURN_NONE;
}

static void head_free(PyObject *self)
{
    Head *head = (Head *)self;
    PyTypeObject *type = Py_TYPE(self);
    for (int i = 0; i < N_WEIGHTS; i++)
        Py_XDECREF(head->weights[i].owner);
    Py_XDECREF(head->rung_weights);
    if (head->reader != NULL)
        PyMem_Free(head->reader->vocabulary.slots);
    PyMem_Free(head->reader);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Take all tokens of a dict of bytes to ids; 0 with an error set where one can't be held. */
static int take_tokens(Vocabulary *vocabulary, PyObject *tokens, int is_continuation)
{
    PyObject *token, *id;
    Py_ssize_t place = 0, size;
    while (PyDict_Next(tokens, &place, &token, &id)) {
        char *bytes;
        long number = PyLong_AsLong(id);
        if (PyErr_Occurred() || PyBytes_AsStringAndSize(token, &bytes, &size) < 0)
            return 0;
        if (number < 0 || number >= 1 << 15 || !add_token(vocabulary, bytes, (size_t)size, is_continuation, (uint16_t)number)) {
            PyErr_SetString(PyExc_ValueError, "a token is too long, or its id is not below 32,768");
            return 0;
        }
    }
    return 1;
}

static int make_vocabulary(Reader *reader, PyObject *words, PyObject *continuations)
{
    size_t n = (size_t)PyDict_Size(words) + (size_t)PyDict_Size(continuations), n_slots = 64;
    if (n > 1 << 16) {
        PyErr_SetString(PyExc_ValueError, "too many tokens");
        return 0;
    }
    while (n_slots < 2 * n)
        n_slots *= 2;
    reader->vocabulary.slots = PyMem_Calloc(n_slots, sizeof(Token));
    reader->vocabulary.mask = (uint32_t)n_slots - 1;
    if (reader->vocabulary.slots == NULL) {
        PyErr_NoMemory();
        return 0;
    }
    return take_tokens(&reader->vocabulary, words, 0) && take_tokens(&reader->vocabulary, continuations, 1);
}

/* Take the weights, and check that every place that `score` and `is_near` read is there. */
static int take_weights(Head *head, PyObject *given)
{
    Numbers *weights = head->weights;
    if (PyTuple_Size(given) != N_WEIGHTS) {
        PyErr_SetString(PyExc_ValueError, "weights: expected 9");
        return 0;
    }
    for (int i = 0; i < N_WEIGHTS; i++) {
        char *start;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, i), &start, &size) < 0)
            return 0;
        weights[i].owner = Py_NewRef(PyTuple_GetItem(given, i));
        weights[i].start = start;
        weights[i].n = size / (Py_ssize_t)(i < BAND_EDGES ? sizeof(float) : sizeof(double));
    }
    Py_ssize_t n = weights[CLASSES].n, n_calibrator = weights[CALIBRATOR].n;
    int kind = head->calibrator_kind, fits;
    fits = n >= 1 && n <= MAX_CLASSES && weights[BUCKETS].n == N_BUCKETS * (1 + n) && weights[INTERCEPT].n == n &&
           weights[STRUCTURAL].n == 2 * N_MEASURES + 2 + N_MEASURES * n && weights[LIMITS].n == 5 &&
           weights[PROBABILITIES].n == 2 && weights[HALF_WIDTHS].n == weights[BAND_EDGES].n + 1;
    fits = fits && ((kind == LINE && n_calibrator == 2) || (kind == BETA && n_calibrator == 3) ||
                    (kind == ISOTONIC && n_calibrator % 3 == 1));
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "weights: sizes that do not belong together");
        return 0;
    }
    head->n_classes = (int)n;
    return 1;
}

static PyObject *head_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"words", "continuations", "unknown", "max_word_chars", "ends", "encoder_reads",
                            "weights", "calibrator", NULL};
    PyObject *words, *continuations, *weights;
    unsigned int unknown, max_word_chars, first, last, n_head, n_tail;
    int calibrator;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!II(II)(II)O!i", names, &PyDict_Type, &words, &PyDict_Type,
                                     &continuations, &unknown, &max_word_chars, &first, &last, &n_head, &n_tail,
                                     &PyTuple_Type, &weights, &calibrator))
        return NULL;
    if (unknown >= 1 << 15 || max_word_chars > 100 || n_tail < 1 || n_head > LEXICAL_END || n_tail > LEXICAL_END) {
        PyErr_SetString(PyExc_ValueError, "unknown, max_word_chars or encoder_reads out of range");
        return NULL;
    }
    Head *head = (Head *)PyType_GenericAlloc(type, 0);
    if (head == NULL)
        return NULL;
    head->reader = PyMem_Calloc(1, sizeof *head->reader);
    head->calibrator_kind = calibrator;
    head->first = first, head->last = last, head->head = n_head, head->tail = n_tail;
    for (int i = 1; i < N_LOGS; i++)
        head->log_of_count[i] = logf((float)i) + 1.0f;
    if (head->reader == NULL) {
        PyErr_NoMemory();
    } else {
        head->reader->vocabulary.unknown = (uint16_t)unknown;
        head->reader->vocabulary.max_chars = max_word_chars;
        if (make_vocabulary(head->reader, words, continuations) && take_weights(head, weights))
            return (PyObject *)head;
    }
    Py_DECREF(head);
    return NULL;
}

static PyMethodDef head_methods[] = {
    {"look", head_look, METH_VARARGS, look_doc},
    {"ngrams", head_ngrams, METH_O, ngrams_doc},
    {"teach", head_teach, METH_VARARGS, teach_doc},
    {"take_rungs", head_take_rungs, METH_O, take_rungs_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot head_slots[] = {
    {Py_tp_doc, "The fast head of one router graph; see `native_head.py` for its arguments."},
    {Py_tp_new, head_new},
    {Py_tp_dealloc, head_free},
    {Py_tp_methods, head_methods},
    {0, NULL},
};

static PyType_Spec head_spec = {"turnout.serving.router.native._head.Head", sizeof(Head), 0, Py_TPFLAGS_DEFAULT,
                                head_slots};

static int fill(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&head_spec);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Head", type) < 0;
    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_head", "The fast head of a router graph, in C.", 0, NULL, slots,
                             NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__head(void) { return PyModuleDef_Init(&module); }
