/* On a processor, all that stands between two convolutions, in as few passes as it takes.

   Feature maps are (N, H, W, C) in memory, in float32 or bfloat16; sums and formulas are float32
   or better. No sum depends on the number of threads, nor on which pictures keep a picture company.
   `native.py` says what each function does; it compiles this file, for this processor, and calls
   them. Nothing is checked here. */

#include <omp.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define LANES 16 /* values at once: a register's. Of wider vectors compilers make poor code. */
#else
#define LANES 8
#endif

typedef float wide __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t narrow __attribute__((vector_size(2 * LANES)));

/* Everything below is written once, for either precision: `half` is known when it is compiled. */
#define EITHER(call)        \
    do {                    \
        if (half)           \
            call(1);        \
        else                \
            call(0);        \
    } while (0)

/* ---- values ---- */

INLINE int64_t width_of(int half) { return half ? 2 : 4; }

INLINE const void *at(const void *x, int64_t i, int half) {
    return (const char *)x + i * width_of(half);
}

INLINE narrow rounded(wide v) {
#if defined(__AVX512BF16__)
    return (narrow)_mm512_cvtneps_pbh((__m512)v);
#else
    bits b = (bits)v, nan = (bits)(v != v);
    bits even = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    return __builtin_convertvector((even & ~nan) | (nan & 0x7fc0), narrow);
#endif
}

INLINE wide load(const void *x, int64_t i, int half) {
    wide v;
    if (half) {
        narrow n;
        memcpy(&n, at(x, i, 1), sizeof n);
        v = (wide)(__builtin_convertvector(n, bits) << 16);
    } else {
        memcpy(&v, at(x, i, 0), sizeof v);
    }
    return v;
}

INLINE void store(void *x, int64_t i, wide v, int half) {
    narrow n = rounded(v);
    if (half)
        memcpy((char *)x + 2 * i, &n, sizeof n);
    else
        memcpy((char *)x + 4 * i, &v, sizeof v);
}

INLINE float get(const void *x, int64_t i, int half) {
    float v;
    if (half) {
        uint32_t b = (uint32_t)((const uint16_t *)x)[i] << 16;
        memcpy(&v, &b, sizeof v);
    } else {
        v = ((const float *)x)[i];
    }
    return v;
}

/* The same of fewer than LANES values. */
INLINE wide load_some(const void *x, int64_t i, int64_t count, int half) {
    char some[4 * LANES] = {0};
    memcpy(some, at(x, i, half), count * width_of(half));
    return load(some, 0, half);
}

INLINE void store_some(void *x, int64_t i, int64_t count, wide v, int half) {
    char some[4 * LANES];
    store(some, 0, v, half);
    memcpy((char *)x + i * width_of(half), some, count * width_of(half));
}

/* ---- the exponential, to two units in the last place (half: to four digits) ----

   e^x = 2^n e^r with n = round(x / ln 2), and e^r by its Taylor series, adjusted to |r| < ln(2)/2
   as in Moshier's Cephes library. ln 2 is in two parts, so that n ln 2 is exact. */

INLINE wide exponential(wide x, int half) {
    /* No more than what float32 has; a NaN is neither below nor above, and stays one. */
#if defined(__AVX512F__)
    x = (wide)_mm512_max_ps(_mm512_set1_ps(-120), (__m512)x);
    x = (wide)_mm512_min_ps(_mm512_set1_ps(120), (__m512)x);
    wide n = (wide)_mm512_roundscale_ps((__m512)(x * 1.44269504f), 0);
#else
    bits low = (bits)(x < -87.0f), high = (bits)(x > 88.0f);
    wide least = (wide){0} - 87.0f, most = (wide){0} + 88.0f;
    x = (wide)(((bits)x & ~low & ~high) | ((bits)least & low) | ((bits)most & high));
    wide magic = x * 1.44269504f + 12582912.0f; /* 1.5 · 2^23: what is added to it is rounded */
    wide n = magic - 12582912.0f;
#endif
    wide r = x - n * 0.693359375f + n * 2.12194440e-4f, p;
    if (half) {
        p = r * 4.1665795894e-2f + 1.6666665459e-1f;
    } else {
        p = r * 1.9875691500e-4f + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
    }
    p = (p * r + 0.5f) * r * r + r + 1.0f;
#if defined(__AVX512F__)
    return (wide)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    return p * (wide)(((bits)magic << 23) + 0x3f800000);
#endif
}

INLINE wide silu_of(wide v, int half) {
    wide below = 1.0f + exponential(-v, half);
#if defined(__AVX512F__)
    if (half) return v * (wide)_mm512_rcp14_ps((__m512)below);
#endif
    return v / below;
}

/* ---- group norm ---- */

/* Feature maps whose channels come from one tensor or from two. */
typedef struct {
    const void *x, *beside;
    int64_t own, other; /* channels */
} maps;

INLINE float pivot_of(const maps *m, int64_t first_row, int64_t c, int half) {
    if (c < m->own) return get(m->x, first_row * m->own + c, half);
    return get(m->beside, first_row * m->other + c - m->own, half);
}

INLINE void join(const maps *m, void *joined, int64_t row, int64_t rows, int half) {
    int64_t own = m->own * width_of(half), other = m->other * width_of(half);
    char *to = (char *)joined + row * (own + other);
    const char *x = (const char *)m->x + row * own, *beside = (const char *)m->beside + row * other;
    for (int64_t r = 0; r < rows; r++, to += own + other, x += own, beside += other) {
        memcpy(to, x, own);
        memcpy(to + own, beside, other);
    }
}

INLINE void sum_lanes(const void *x, int64_t i, int64_t steps, int64_t step, const float *pivot,
                      float *once, float *twice, int vectors, int half) {
    wide p[2], s[2] = {{0}, {0}}, q[2] = {{0}, {0}};
    for (int k = 0; k < vectors; k++) p[k] = load(pivot, LANES * k, 0);
    for (int64_t g = 0; g < steps; g++, i += step)
        for (int k = 0; k < vectors; k++) {
            wide off = load(x, i + LANES * k, half) - p[k];
            s[k] += off;
            q[k] += off * off;
        }
    for (int k = 0; k < vectors; k++) {
        store(once, LANES * k, s[k], 0);
        store(twice, LANES * k, q[k], 0);
    }
}

/* Of each channel of some rows: Σ(x − p) and Σ(x − p)², p the first pixel's value. Around p, and
   not 0, a mean far from zero costs no digits. As many rows go together as fill the lanes. */
INLINE void sum_rows(const void *x, const maps *m, int64_t first_row, int64_t row, int64_t rows,
                     int64_t copies, float *sums, int half) {
    int64_t channels = m->own + m->other, period = copies * channels, steps = rows / copies;
    float pivot[2 * LANES], once[2 * LANES], twice[2 * LANES];
    memset(sums, 0, 2 * channels * sizeof *sums);
    for (int64_t b = 0, lanes; b < period; b += lanes) {
        lanes = period - b < 2 * LANES ? LANES : 2 * LANES;
        for (int l = 0; l < lanes; l++) {
            pivot[l] = pivot_of(m, first_row, (b + l) % channels, half);
        }
        int64_t i = row * channels + b;
        if (lanes == LANES)
            sum_lanes(x, i, steps, period, pivot, once, twice, 1, half);
        else
            sum_lanes(x, i, steps, period, pivot, once, twice, 2, half);
        for (int l = 0; l < lanes; l++) {
            sums[(b + l) % channels] += once[l];
            sums[channels + (b + l) % channels] += twice[l];
        }
    }
    for (int64_t r = row + steps * copies; r < row + rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            float off = get(x, r * channels + c, half) - pivot_of(m, first_row, c, half);
            sums[c] += off;
            sums[channels + c] += off * off;
        }
}

/* What one picture's channels are multiplied by, and what is added: y = a·x + b. */
typedef struct {
    const void *weight, *bias, *add, *scale, *shift; /* the last three of this picture, or null */
    int64_t groups;
    float eps;
} norm;

INLINE void weigh(const norm *n, const maps *m, int64_t first_row, int64_t rows, int64_t parts,
                  const float *sums, int64_t copies, float *table, int half) {
    int64_t channels = m->own + m->other, size = channels / n->groups, period = copies * channels;
    for (int64_t first = 0; first < channels; first += size) {
        double means[size], mean = 0, variance = 0;
        for (int64_t c = first; c < first + size; c++) {
            double once = 0, twice = 0;
            for (int64_t p = 0; p < parts; p++) {
                once += sums[2 * p * channels + c];
                twice += sums[(2 * p + 1) * channels + c];
            }
            once /= rows;
            means[c - first] = pivot_of(m, first_row, c, half) + once;
            if (n->add) means[c - first] += get(n->add, c, half);
            mean += means[c - first] / size;
            variance += (twice / rows - once * once) / size; /* within channels */
        }
        for (int64_t k = 0; k < size; k++) { /* and between them */
            variance += (means[k] - mean) * (means[k] - mean) / size;
        }
        double narrowing = 1 / (double)__builtin_sqrtf((variance < 0 ? 0 : variance) + n->eps);
        for (int64_t c = first; c < first + size; c++) {
            double a = get(n->weight, c, half) * narrowing;
            double b = get(n->bias, c, half) - mean * a;
            if (n->add) b += get(n->add, c, half) * a;
            if (n->scale) {
                double factor = 1.0 + get(n->scale, c, half);
                a *= factor;
                b = b * factor + get(n->shift, c, half);
            }
            for (int64_t i = c; i < period; i += channels) {
                table[i] = a;
                table[period + i] = b;
            }
        }
    }
}

INLINE wide line(wide v, const float *table, int64_t period, int64_t l, int silu, int half) {
    v = v * load(table, l, 0) + load(table, period + l, 0);
    return silu ? silu_of(v, half) : v;
}

INLINE void apply(const void *x, void *y, int64_t from, int64_t count, const float *table,
                  int64_t period, int silu, int half) {
    int64_t i = from, end = from + count;
    for (; i + period <= end; i += period)
        for (int64_t l = 0; l < period; l += LANES) {
            store(y, i + l, line(load(x, i + l, half), table, period, l, silu, half), half);
        }
    for (int64_t l = 0; i < end; i += LANES, l += LANES) {
        int64_t some = end - i < LANES ? end - i : LANES;
        wide v = line(load_some(x, i, some, half), table, period, l, silu, half);
        store_some(y, i, some, v, half);
    }
}

void group_norm(int half, int threads, const void *x, const void *beside, void *joined, void *y,
                const void *weight, const void *bias, const void *add, const void *scale,
                const void *shift, int64_t add_stride, int64_t scale_stride, int64_t shift_stride,
                int64_t pictures, int64_t rows, int64_t own, int64_t other, int64_t groups,
                float eps, int silu, int64_t rows_of_part, int64_t copies, float *sums,
                float *table) {
    const maps m = {x, beside, own, other};
    const void *whole = beside ? joined : x;
    int64_t channels = own + other, period = copies * channels;
    int64_t parts = (rows + rows_of_part - 1) / rows_of_part;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t job = 0; job < pictures * parts; job++) {
            int64_t first_row = job / parts * rows, done = job % parts * rows_of_part;
            int64_t some = rows - done < rows_of_part ? rows - done : rows_of_part;
            float *into = sums + 2 * job * channels;
            if (beside) join(&m, joined, first_row + done, some, half);
#define SUM(h) sum_rows(whole, &m, first_row, first_row + done, some, copies, into, h)
            EITHER(SUM);
        }
#pragma omp for schedule(static)
        for (int64_t p = 0; p < pictures; p++) {
            const norm n = {weight,
                            bias,
                            add ? at(add, p * add_stride, half) : 0,
                            scale ? at(scale, p * scale_stride, half) : 0,
                            shift ? at(shift, p * shift_stride, half) : 0,
                            groups,
                            eps};
            const float *found = sums + 2 * p * parts * channels;
            float *into = table + 2 * p * period;
#define WEIGH(h) weigh(&n, &m, p * rows, rows, parts, found, copies, into, h)
            EITHER(WEIGH);
        }
#pragma omp for schedule(static)
        for (int64_t job = 0; job < pictures * parts; job++) {
            int64_t p = job / parts, done = job % parts * rows_of_part;
            int64_t some = rows - done < rows_of_part ? rows - done : rows_of_part;
            int64_t from = (p * rows + done) * channels, count = some * channels;
            const float *lines = table + 2 * p * period;
#define APPLY(h)                                                \
    do {                                                        \
        if (silu)                                               \
            apply(whole, y, from, count, lines, period, 1, h);  \
        else                                                    \
            apply(whole, y, from, count, lines, period, 0, h);  \
    } while (0)
            EITHER(APPLY);
        }
    }
}

/* ---- doubled pictures ---- */

void interleave(int threads, const char *parts, char *y, int64_t pictures, int64_t height,
                int64_t width, int64_t bytes) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < pictures * height; row++) {
        int64_t down = row % height, p = down % 2;
        int64_t from = (row / height * (height / 2 + 1) + down / 2 + p) * (width / 2 + 1);
        for (int64_t across = 0; across < width; across++) {
            int64_t q = across % 2, place = (from + across / 2 + q) * 4 + 2 * p + q;
            memcpy(y + (row * width + across) * bytes, parts + place * bytes, bytes);
        }
    }
}

/* ---- Winograd's F(4, 3) along rows: `winograd.py` ---- */

INLINE void spread_six(const wide d[6], wide v[6]) {
    wide even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    v[0] = 4 * d[0] - 5 * d[2] + d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    even = d[4] - d[2];
    odd = 2 * (d[3] - d[1]);
    v[3] = even + odd;
    v[4] = even - odd;
    v[5] = 5 * d[3] - 4 * d[1] - d[5];
}

/* Where a vector of channels begins: the last one overlaps the one before, if it must. */
INLINE int64_t begin(int64_t c, int64_t channels) {
    return c + LANES <= channels ? c : channels - LANES;
}

/* x, (rows, W, C), to Bᵀd, (rows, W/4, 6, C). C is LANES or more. */
void spread(int threads, const float *x, float *v, int64_t rows, int64_t width, int64_t channels) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t four = 0; four < width; four += 4) {
            const float *from = x + (row * width + four - 1) * channels;
            float *to = v + (row * width + four) / 4 * 6 * channels;
            for (int64_t done = 0; done < channels; done += LANES) {
                int64_t c = begin(done, channels);
                wide d[6], six[6];
                for (int k = 0; k < 6; k++) {
                    int outside = (k == 0 && four == 0) || (k == 5 && four + 4 == width);
                    d[k] = outside ? (wide){0} : load(from, k * channels + c, 0);
                }
                spread_six(d, six);
                for (int k = 0; k < 6; k++) store(to, k * channels + c, six[k], 0);
            }
        }
}

/* Six products, (N, height, W/4, 6, C), to Aᵀm of them, (N, H, W, C): of each picture the rows
   from `top` on, as many as y has. */
void gather(int threads, const float *m, float *y, int64_t pictures, int64_t rows_of_m,
            int64_t rows_of_y, int64_t top, int64_t width, int64_t channels,
            int64_t pixels_between_pictures) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < pictures * rows_of_y; row++) {
        int64_t p = row / rows_of_y, down = row % rows_of_y;
        const float *from = m + (p * rows_of_m + top + down) * width / 4 * 6 * channels;
        float *to = y + (p * pixels_between_pictures + down * width) * channels;
        for (int64_t four = 0; four < width / 4; four++)
            for (int64_t done = 0; done < channels; done += LANES) {
                int64_t c = begin(done, channels);
                const float *six = from + four * 6 * channels + c;
                wide k[6];
                for (int i = 0; i < 6; i++) k[i] = load(six, i * channels, 0);
                wide p12 = k[1] + k[2], m12 = k[1] - k[2], p34 = k[3] + k[4], m34 = k[3] - k[4];
                float *out = to + four * 4 * channels + c;
                store(out, 0, k[0] + p12 + p34, 0);
                store(out, channels, m12 + 2 * m34, 0);
                store(out, 2 * channels, p12 + 4 * p34, 0);
                store(out, 3 * channels, m12 + 8 * m34 + k[5], 0);
            }
    }
}

/* ---- attention, of heads that are narrow ---- */

#define ROWS 8 /* queries at once */

INLINE float sum_of(wide v) {
    float sum = 0;
    for (int l = 0; l < LANES; l++) sum += v[l];
    return sum;
}

INLINE float largest_of(wide v) {
    float most = v[0];
    for (int l = 1; l < LANES; l++) most = v[l] > most ? v[l] : most;
    return most;
}

INLINE wide larger(wide a, wide b) {
    bits first = (bits)(a > b);
    return (wide)(((bits)a & first) | ((bits)b & ~first));
}

/* softmax(q kᵀ) v of some queries, (ROWS, d), which are divided by √d already. Keys are (d, across)
   and values (pixels, across_d), both filled up to whole vectors; of `scores`, (ROWS, across), what
   is filled up counts for nothing. */
INLINE void attend_rows(const float *q, const float *keys, const float *values, float *scores,
                        wide *seen, int64_t pixels, int64_t across, int64_t d, int64_t across_d,
                        int half) {
    wide most[ROWS];
    float total[ROWS];
    for (int r = 0; r < ROWS; r++) most[r] = (wide){0} - __builtin_inff();
    for (int64_t j = 0; j < across; j += LANES) {
        wide s[ROWS];
        for (int r = 0; r < ROWS; r++) s[r] = (wide){0};
        for (int64_t c = 0; c < d; c++) {
            wide key = load(keys, c * across + j, 0);
            for (int r = 0; r < ROWS; r++) s[r] += q[r * d + c] * key;
        }
        for (int r = 0; r < ROWS; r++) {
            most[r] = larger(s[r], most[r]);
            store(scores, r * across + j, s[r], 0);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        float top = largest_of(most[r]);
        wide sum = {0};
        for (int64_t j = 0; j < across; j += LANES) {
            wide p = exponential(load(scores, r * across + j, 0) - top, half);
            for (int64_t l = pixels - j; l < LANES; l++) p[l] = 0;
            store(scores, r * across + j, p, 0);
            sum += p;
        }
        total[r] = sum_of(sum);
    }
    for (int64_t c = 0; c < across_d; c += LANES) {
        wide sum[ROWS];
        for (int r = 0; r < ROWS; r++) sum[r] = (wide){0};
        for (int64_t j = 0; j < pixels; j++) {
            wide value = load(values, j * across_d + c, 0);
            for (int r = 0; r < ROWS; r++) sum[r] += scores[r * across + j] * value;
        }
        for (int r = 0; r < ROWS; r++) seen[r * across_d / LANES + c / LANES] = sum[r] / total[r];
    }
}

INLINE int64_t filled(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

INLINE void attend_some(const void *q, const void *k, const void *v, void *y, int64_t first,
                        int64_t last, int64_t pixels, int64_t step, int64_t d, float *room,
                        int half) {
    int64_t across = filled(pixels), across_d = filled(d);
    float *keys = room, *values = keys + d * across, *scores = values + pixels * across_d;
    float *queries = scores + ROWS * across, factor = 1 / __builtin_sqrtf(d);
    wide *seen = (wide *)(queries + filled(ROWS * d));
    for (int64_t j = 0; j < across; j++) { /* filled up with the last key, which changes no maximum */
        int64_t pixel = j < pixels ? j : pixels - 1;
        for (int64_t c = 0; c < d; c++) keys[c * across + j] = get(k, pixel * step + c, half);
    }
    for (int64_t j = 0; j < pixels; j++)
        for (int64_t c = 0; c < across_d; c++) {
            values[j * across_d + c] = c < d ? get(v, j * step + c, half) : 0;
        }
    for (int64_t row = first; row < last; row += ROWS) {
        for (int r = 0; r < ROWS; r++) { /* past the last one, the last one again */
            int64_t pixel = row + r < last ? row + r : last - 1;
            for (int64_t c = 0; c < d; c++) {
                queries[r * d + c] = get(q, pixel * step + c, half) * factor;
            }
        }
        attend_rows(queries, keys, values, scores, seen, pixels, across, d, across_d, half);
        for (int64_t r = 0; r < ROWS && row + r < last; r++)
            for (int64_t c = 0; c < d; c += LANES) {
                int64_t some = d - c < LANES ? d - c : LANES;
                wide found = seen[(r * across_d + c) / LANES];
                store_some(y, (row + r) * step + c, some, found, half);
            }
    }
}

/* q, k and v to y, all (N, pixels, heads · d). */
void attend(int half, int threads, const void *q, const void *k, const void *v, void *y,
            int64_t pictures, int64_t pixels, int64_t heads, int64_t d, int64_t rows_of_part,
            float *rooms, int64_t room) {
    int64_t parts = (pixels + rows_of_part - 1) / rows_of_part, step = heads * d;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t job = 0; job < pictures * heads * parts; job++) {
        int64_t head = job / parts % heads, first = job % parts * rows_of_part;
        int64_t last = first + rows_of_part < pixels ? first + rows_of_part : pixels;
        int64_t from = job / parts / heads * pixels * step + head * d;
        float *own = rooms + omp_get_thread_num() * room;
#define ATTEND(h)                                                                           \
    attend_some(at(q, from, h), at(k, from, h), at(v, from, h), (void *)at(y, from, h), first, \
                last, pixels, step, d, own, h)
        EITHER(ATTEND);
    }
}
