// The long convolution, forward and backward, and what else lies between the matrix products of a folded SSSD-ECG or
// PatchS4 block; features last.
//
// Every function works on 16 neighbouring features at once, one vector register wide. The vectors are the compilers'
// own (GCC, Clang), so the same source makes AVX-512, AVX2 or NEON code. A vector may hold fewer features than 16
// only at the end of a row.
//
// Long convolution. A record u of L samples is a polynomial in X; its convolution with taps at lags -(L-1) .. L-1
// is the product with the taps' polynomial, negative lags being negative powers. Modulo X^M = i with M >= L the real
// parts of the coefficients 0 .. L-1 are the convolution exactly: what wraps around arrives multiplied by i. With
// X = w Y, w = exp(i pi / 2M), that is a cyclic convolution of M complex numbers: as much work as a real transform
// of 2M, with no pairing of conjugate frequencies and no padding. The transform splits M = R_0 R_1 ... depth first,
// decimating in frequency on the way in and in time on the way out, so that no reordering is needed and all splits
// but the first stay in the first-level cache. Spectrum and constants come from the caller (convolution.py).

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int kLanes = 16;
typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
using Whole = std::integral_constant<int, kLanes>;

template <class Lanes>
INLINE Vec load(const float* from, Lanes lanes) {
  Vec v = {};
  std::memcpy(&v, from, sizeof(float) * lanes);
  return v;
}

template <class Lanes>
INLINE void store(float* to, Vec v, Lanes lanes) {
  std::memcpy(to, &v, sizeof(float) * lanes);
}

// f(first feature, number of features) for every vector of a row.
template <class F>
INLINE void each_vector(int features, F&& f) {
  int c = 0;
  for (; c + kLanes <= features; c += kLanes) f(c, Whole{});
  if (c < features) f(c, features - c);
}

template <class F, int... I>
INLINE void unroll(F&& f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>{}), ...);
}

// f(0), ..., f(N - 1) as constants, so that arrays indexed by them live in registers.
template <int N, class F>
INLINE void unroll(F&& f) {
  unroll(f, std::make_integer_sequence<int, N>{});
}

// ------------------------------------------------------------------------------------- elementwise functions

INLINE Vec clamp(Vec x, float low, float high) {
  const Vec lower = low - Vec{}, upper = high - Vec{};
  x = x < lower ? lower : x;
  return x > upper ? upper : x;
}

// Phi(x) - 1/2 = p / q for the normal distribution function Phi: a rational minimax fit, 7e-9 off on |x| <= 5.5,
// constant beyond.
struct Fraction {
  Vec p, q;
};

INLINE Fraction normal_distribution(Vec x) {
  const Vec t = clamp(x, -5.5f, 5.5f), s = t * t;
  Vec p = s * 2.274933243046539e-08f + 6.352129711154006e-06f;
  p = p * s + 1.6882693411640777e-04f;
  p = p * s + 4.677268318780827e-03f;
  p = p * s + 3.385276684801906e-02f;
  p = p * s + 3.989422346214352e-01f;
  Vec q = s * 1.1975038449274887e-06f + 7.364792324442192e-05f;
  q = q * s + 1.8844519402777214e-03f;
  q = q * s + 2.8645941234128246e-02f;
  q = q * s + 2.5152222085647263e-01f;
  q = q * s + 1.0f;
  return {t * p, q};
}

// GELU of two vectors at once: divisions are slow, and one does for both.
INLINE void gelu(Vec& a, Vec& b) {
  const Fraction at_a = normal_distribution(a), at_b = normal_distribution(b);
  const Vec inverse = 1.0f / (at_a.q * at_b.q);
  a *= 0.5f + at_a.p * at_b.q * inverse;
  b *= 0.5f + at_b.p * at_a.q * inverse;
}

// exp(x) for |x| <= 40: 2^n exp(f), n rounded by adding 1.5 * 2^23, exp(f) by its series, |f| <= ln(2) / 2.
INLINE Vec exponential(Vec x) {
  x = clamp(x, -40.0f, 40.0f);
  const float shifter = 12582912.0f;
  const Vec shifted = x * 1.44269504f + shifter;
  const Vec n = shifted - shifter;
  const Vec f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = f * (1.0f / 5040) + 1.0f / 720;
  p = p * f + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  IntVec bits, exponent;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&exponent, &shifted, sizeof exponent);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof bits);
  return p;
}

// tanh(a) sigmoid(b) with one division.
INLINE Vec gate(Vec a, Vec b) {
  const Vec e = exponential(-2.0f * a);
  return (1.0f - e) / ((1.0f + e) * (1.0f + exponential(-b)));
}

INLINE float sum(Vec v) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half h[2];
  std::memcpy(h, &v, sizeof v);
  const Half eight = h[0] + h[1];
  Quarter q[2];
  std::memcpy(q, &eight, sizeof eight);
  const Quarter four = q[0] + q[1];
  return (four[0] + four[2]) + (four[1] + four[3]);
}

// ------------------------------------------------------------------------------------- small Fourier transforms

struct Complex {
  Vec re, im;
};

INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
INLINE Complex operator*(Complex a, float b) { return {a.re * b, a.im * b}; }
INLINE Complex minus_i(Complex a) { return {a.im, -a.re}; }
INLINE Complex swapped(Complex a) { return {a.im, a.re}; }  // = i conj(a)

INLINE Complex times(Complex a, float re, float im) { return {a.re * re - a.im * im, a.re * im + a.im * re}; }
INLINE Complex times(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }

// z_k = sum_n z_n exp(-2 pi i n k / R), in place.
template <int R>
struct Dft;

template <>
struct Dft<1> {
  static INLINE void run(Complex*) {}
};

template <>
struct Dft<2> {
  static INLINE void run(Complex* z) {
    const Complex a = z[0], b = z[1];
    z[0] = a + b;
    z[1] = a - b;
  }
};

template <>
struct Dft<3> {
  static INLINE void run(Complex* z) {
    const Complex plus = z[1] + z[2], minus = minus_i(z[1] - z[2]) * 0.866025403784438647f;
    const Complex mid = z[0] - plus * 0.5f;
    z[0] = z[0] + plus;
    z[1] = mid + minus;
    z[2] = mid - minus;
  }
};

template <>
struct Dft<4> {
  static INLINE void run(Complex* z) {
    const Complex a = z[0] + z[2], b = z[0] - z[2], c = z[1] + z[3], d = minus_i(z[1] - z[3]);
    z[0] = a + c;
    z[1] = b + d;
    z[2] = a - c;
    z[3] = b - d;
  }
};

template <>
struct Dft<5> {
  static INLINE void run(Complex* z) {
    constexpr float c1 = 0.309016994374947424f, c2 = -0.809016994374947424f;
    constexpr float s1 = 0.951056516295153572f, s2 = 0.587785252292473129f;
    const Complex p1 = z[1] + z[4], p2 = z[2] + z[3], m1 = minus_i(z[1] - z[4]), m2 = minus_i(z[2] - z[3]);
    const Complex a = z[0] + p1 * c1 + p2 * c2, b = z[0] + p1 * c2 + p2 * c1;
    const Complex c = m1 * s1 + m2 * s2, d = m1 * s2 - m2 * s1;
    z[0] = z[0] + p1 + p2;
    z[1] = a + c;
    z[2] = b + d;
    z[3] = b - d;
    z[4] = a - c;
  }
};

template <>
struct Dft<8> {
  static INLINE void run(Complex* z) {
    constexpr float r = 0.707106781186547524f;
    Complex even[4], odd[4];
    unroll<4>([&](auto i) __attribute__((always_inline)) {
      even[i] = z[i] + z[i + 4];
      odd[i] = z[i] - z[i + 4];
    });
    odd[1] = times(odd[1], r, -r);
    odd[2] = minus_i(odd[2]);
    odd[3] = times(odd[3], -r, -r);
    Dft<4>::run(even);
    Dft<4>::run(odd);
    unroll<4>([&](auto i) __attribute__((always_inline)) {
      z[2 * i] = even[i];
      z[2 * i + 1] = odd[i];
    });
  }
};

// Coprime factors need no twiddles (Good and Thomas): n = B n_a + A n_b, k = Ka k_a + Kb k_b modulo A B, where Ka is
// 1 modulo A and 0 modulo B, Kb the other way round.
template <int A, int B, int Ka, int Kb>
INLINE void coprime_dft(Complex* z) {
  Complex rows[A][B];
  unroll<A>([&](auto a) __attribute__((always_inline)) {
    unroll<B>([&](auto b) __attribute__((always_inline)) { rows[a][b] = z[(B * a + A * b) % (A * B)]; });
    Dft<B>::run(rows[a]);
  });
  unroll<B>([&](auto b) __attribute__((always_inline)) {
    Complex column[A];
    unroll<A>([&](auto a) __attribute__((always_inline)) { column[a] = rows[a][b]; });
    Dft<A>::run(column);
    unroll<A>([&](auto a) __attribute__((always_inline)) { z[(Ka * a + Kb * b) % (A * B)] = column[a]; });
  });
}

template <>
struct Dft<6> {
  static INLINE void run(Complex* z) { coprime_dft<2, 3, 3, 4>(z); }
};

template <>
struct Dft<10> {
  static INLINE void run(Complex* z) { coprime_dft<2, 5, 5, 6>(z); }
};

// ------------------------------------------------------------------------------------- splits of the transform

// One split of a block of R * S complex vectors into R blocks of S. Twiddles are (re, im) pairs: on the first split
// R for each of the S positions, with the powers of w in them, on the others R - 1, because the first is 1.
struct Split {
  int radix, rest;
  const float* twiddles;
};

constexpr int kAhead = 4;  // rows to fetch ahead: they lie too far apart for the processor to do so by itself

template <int R>
void split_first(const Split& split, const float* turns, const float* u, int64_t stride, int length, Complex* block) {
  const int S = split.rest;
  const float* t = split.twiddles;
  for (int s = 0; s < S; ++s, t += 2 * R) {
    Complex z[R];
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const int at = s + S * r;
      const Vec v = at < length ? load(u + at * stride, Whole{}) : Vec{};
      __builtin_prefetch(u + (at + kAhead) * stride);
      z[r] = {v * turns[2 * r], v * turns[2 * r + 1]};
    });
    Dft<R>::run(z);
    unroll<R>([&](auto q) __attribute__((always_inline)) { block[q * S + s] = times(z[q], t[2 * q], t[2 * q + 1]); });
  }
}

template <int R>
void split_inner(const Split& split, Complex* block) {
  const int S = split.rest;
  const float* t = split.twiddles;
  for (int s = 0; s < S; ++s, t += 2 * (R - 1)) {
    Complex z[R];
    unroll<R>([&](auto r) __attribute__((always_inline)) { z[r] = block[s + S * r]; });
    Dft<R>::run(z);
    block[s] = z[0];
    unroll<R - 1>([&](auto q) __attribute__((always_inline)) {
      block[(q + 1) * S + s] = times(z[q + 1], t[2 * q], t[2 * q + 1]);
    });
  }
}

// Last split, product with the spectrum, and first join, in registers. Leaves real and imaginary parts swapped:
// swapped(z conj(t)) = swapped(z) t, so the inverse transform of a swapped number is the swapped forward transform.
template <int R>
void multiply(int blocks, Complex* block, const Complex* spectrum) {
  for (int i = 0; i < blocks; ++i, block += R, spectrum += R) {
    Complex z[R];
    unroll<R>([&](auto r) __attribute__((always_inline)) { z[r] = block[r]; });
    Dft<R>::run(z);
    unroll<R>([&](auto q) __attribute__((always_inline)) { z[q] = swapped(times(z[q], spectrum[q])); });
    Dft<R>::run(z);
    unroll<R>([&](auto r) __attribute__((always_inline)) { block[r] = z[r]; });
  }
}

template <int R>
void join_inner(const Split& split, Complex* block) {
  const int S = split.rest;
  const float* t = split.twiddles;
  for (int s = 0; s < S; ++s, t += 2 * (R - 1)) {
    Complex z[R];
    z[0] = block[s];
    unroll<R - 1>([&](auto q) __attribute__((always_inline)) {
      z[q + 1] = times(block[(q + 1) * S + s], t[2 * q], t[2 * q + 1]);
    });
    Dft<R>::run(z);
    unroll<R>([&](auto r) __attribute__((always_inline)) { block[s + S * r] = z[r]; });
  }
}

template <int R, bool Gelu>
void join_first(const Split& split, const float* turns, const Complex* block, float* y, int64_t stride, int length) {
  const int S = split.rest;
  const float* t = split.twiddles;
  for (int s = 0; s < S; ++s, t += 2 * R) {
    Complex z[R];
    unroll<R>([&](auto q) __attribute__((always_inline)) { z[q] = times(block[q * S + s], t[2 * q], t[2 * q + 1]); });
    Dft<R>::run(z);
    Vec real[R + 1] = {};
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      real[r] = z[r].re * turns[2 * r + 1] + z[r].im * turns[2 * r];  // of a swapped number
    });
    if constexpr (Gelu)
      unroll<(R + 1) / 2>([&](auto r) __attribute__((always_inline)) { gelu(real[2 * r], real[2 * r + 1]); });
    unroll<R>([&](auto r) __attribute__((always_inline)) {
      const int at = s + S * r;
      if (at < length) store(y + at * stride, real[r], Whole{});
    });
  }
}

// f(integral constant of the radix); false where the radix has no code.
template <class F>
INLINE bool with_radix(int radix, F&& f) {
  switch (radix) {
    case 1: f(std::integral_constant<int, 1>{}); return true;
    case 2: f(std::integral_constant<int, 2>{}); return true;
    case 3: f(std::integral_constant<int, 3>{}); return true;
    case 4: f(std::integral_constant<int, 4>{}); return true;
    case 5: f(std::integral_constant<int, 5>{}); return true;
    case 6: f(std::integral_constant<int, 6>{}); return true;
    case 8: f(std::integral_constant<int, 8>{}); return true;
    case 10: f(std::integral_constant<int, 10>{}); return true;
    default: return false;
  }
}

// Splits `blocks` neighbouring blocks by the splits from `split` on, calls leaf(radix, blocks, pointers) where one split
// is left, and joins what it leaves if that is wanted. The pointers run along side by side.
template <bool Join, class Leaf, class... Beside>
void descend(const Split* split, int blocks, const Leaf& leaf, Complex* block, Beside*... beside) {
  if (split->rest == 1) {
    with_radix(split->radix, [&](auto R) { leaf(R, blocks, block, beside...); });
    return;
  }
  const int size = split->radix * split->rest;
  for (int i = 0; i < blocks; ++i, block += size, ((beside += size), ...)) {
    with_radix(split->radix, [&](auto R) { split_inner<R>(*split, block); });
    descend<Join>(split + 1, split->radix, leaf, block, beside...);
    if constexpr (Join) with_radix(split->radix, [&](auto R) { join_inner<R>(*split, block); });
  }
}

// Transform, product and inverse transform by all splits but the first.
void convolve_block(const Split* splits, Complex* block, const Complex* spectrum) {
  descend<true>(
      splits + 1, splits->radix,
      [](auto R, int blocks, Complex* b, const Complex* factors) { multiply<R>(blocks, b, factors); }, block, spectrum);
}

// The transform alone, by all splits but the first.
void transform_block(const Split* splits, Complex* block) {
  descend<false>(
      splits + 1, splits->radix,
      [](auto R, int blocks, Complex* b) {
        for (int i = 0; i < blocks; ++i) Dft<R>::run(b + i * R);
      },
      block);
}

// As `multiply`, by conj(spectrum), after adding the product with conj(other) to `sums`.
template <int R>
void correlate(int blocks, Complex* block, const Complex* other, const Complex* spectrum, Complex* sums) {
  const auto times_conj = [](Complex a, Complex b) __attribute__((always_inline)) {
    return Complex{a.re * b.re + a.im * b.im, a.im * b.re - a.re * b.im};
  };
  for (int i = 0; i < blocks; ++i, block += R, other += R, spectrum += R, sums += R) {
    Complex z[R];
    unroll<R>([&](auto r) __attribute__((always_inline)) { z[r] = block[r]; });
    Dft<R>::run(z);
    unroll<R>([&](auto q) __attribute__((always_inline)) {
      sums[q] = sums[q] + times_conj(z[q], other[q]);
      z[q] = swapped(times_conj(z[q], spectrum[q]));
    });
    Dft<R>::run(z);
    unroll<R>([&](auto r) __attribute__((always_inline)) { block[r] = z[r]; });
  }
}

// As convolve_block, with `correlate` in the middle.
void correlate_block(const Split* splits, Complex* block, const Complex* other, const Complex* spectrum, Complex* sums) {
  descend<true>(
      splits + 1, splits->radix,
      [](auto R, int blocks, Complex* b, const Complex* o, const Complex* factors, Complex* totals) {
        correlate<R>(blocks, b, o, factors, totals);
      },
      block, other, spectrum, sums);
}

// f(feature, pointers to 16 features of a record in and out, their stride) for all vectors of features; what lies
// beyond the last whole vector goes through `edge`, (in + 1) * length * 16 floats.
template <int In, class F>
INLINE void each_slab(const float* const (&in)[In], float* out, int64_t row, int length, int features, float* edge,
                      F&& f) {
  for (int c = 0; c < features; c += kLanes) {
    const int lanes = features - c < kLanes ? features - c : kLanes;
    const float* from[In];
    float* to = out + c;
    int64_t stride = row;
    for (int i = 0; i < In; ++i) from[i] = in[i] + c;
    if (lanes < kLanes) {
      stride = kLanes;
      for (int i = 0; i < In; ++i) {
        float* own = edge + i * int64_t{length} * kLanes;
        for (int t = 0; t < length; ++t) store(own + t * stride, load(in[i] + c + t * row, lanes), Whole{});
        from[i] = own;
      }
      to = edge + In * int64_t{length} * kLanes;
    }
    f(c, from, to, stride);
    if (lanes < kLanes)
      for (int t = 0; t < length; ++t) store(out + c + t * row, load(to + t * stride, Whole{}), lanes);
  }
}

template <bool Gelu>
void convolve_record(const float* u, float* y, int64_t row, int length, int features, const Split* splits,
                     const float* turns, const float* spectrum, float* workspace, float* edge) {
  Complex* block = reinterpret_cast<Complex*>(workspace);
  const int M = splits->radix * splits->rest;
  const float* const in[1] = {u};
  each_slab<1>(in, y, row, length, features, edge,
               [&](int c, const float* const (&from)[1], float* to, int64_t stride) __attribute__((always_inline)) {
    const Complex* piece = reinterpret_cast<const Complex*>(spectrum) + int64_t{c / kLanes} * M;
    with_radix(splits->radix, [&](auto R) { split_first<R>(*splits, turns, from[0], stride, length, block); });
    convolve_block(splits, block, piece);
    with_radix(splits->radix, [&](auto R) { join_first<R, Gelu>(*splits, turns, block, to, stride, length); });
  });
}

}  // namespace

extern "C" {

// y = gelu(k * u), both (length, features) with rows `row` floats apart.
//   splits: two or more whose radices multiply to M; the last has rest 1
//   turns: w^(S r) of the first split, (re, im) pairs
//   spectrum: (ceil(features / 16), M, 2, 16), in the order the splits leave
//   workspace: M * 32 floats; edge: 2 * length * 16 floats for features beyond the last whole vector
void ecgforge_convolve(const float* u, float* y, int64_t row, int length, int features, const Split* splits,
                       const float* turns, const float* spectrum, float* workspace, float* edge) {
  convolve_record<true>(u, y, row, length, features, splits, turns, spectrum, workspace, edge);
}

// y = k * u for `records` records that follow each other.
void ecgforge_filter(const float* u, float* y, int64_t row, int records, int length, int features, const Split* splits,
                     const float* turns, const float* spectrum, float* workspace, float* edge) {
  for (int i = 0; i < records; ++i, u += row * length, y += row * length)
    convolve_record<false>(u, y, row, length, features, splits, turns, spectrum, workspace, edge);
}

// The derivatives of ecgforge_filter: du from dy, and the sum over the records of the transforms' products dy conj(u),
// added to `sums`, which is shaped as the spectrum. workspace: 2 * M * 32 floats; edge: 3 * length * 16 floats.
void ecgforge_filter_back(const float* u, const float* dy, float* du, int64_t row, int records, int length,
                          int features, const Split* splits, const float* turns, const float* spectrum, float* sums,
                          float* workspace, float* edge) {
  const int M = splits->radix * splits->rest;
  Complex* block = reinterpret_cast<Complex*>(workspace);
  Complex* other = block + M;
  for (int i = 0; i < records; ++i, u += row * length, dy += row * length, du += row * length) {
    const float* const in[2] = {u, dy};
    each_slab<2>(in, du, row, length, features, edge,
                 [&](int c, const float* const (&from)[2], float* to, int64_t stride) __attribute__((always_inline)) {
      const int64_t piece = int64_t{c / kLanes} * M;
      with_radix(splits->radix, [&](auto R) {
        split_first<R>(*splits, turns, from[0], stride, length, other);
        split_first<R>(*splits, turns, from[1], stride, length, block);
      });
      transform_block(splits, other);
      correlate_block(splits, block, other, reinterpret_cast<const Complex*>(spectrum) + piece,
                      reinterpret_cast<Complex*>(sums) + piece);
      with_radix(splits->radix, [&](auto R) { join_first<R, false>(*splits, turns, block, to, stride, length); });
    });
  }
}

}  // extern "C"

namespace {

// Mean and 1 / standard deviation of a row whose vectors sum to `total`.
INLINE std::pair<float, float> moments(const float* row, Vec total, int features, float eps) {
  const float mean = sum(total) / features;
  const Vec ones = 1.0f - Vec{};
  Vec squares = {};
  each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
    Vec present;  // 1 where there is a feature
    if constexpr (std::is_same_v<decltype(lanes), Whole>)
      present = ones;
    else
      present = load(reinterpret_cast<const float*>(&ones), lanes);
    const Vec d = (load(row + c, lanes) - mean) * present;
    squares += d * d;
  });
  return {mean, 1.0f / __builtin_sqrtf(sum(squares) / features + eps)};
}

// Adds the bias to a row and returns its moments.
INLINE std::pair<float, float> biased_moments(float* row, const float* bias, int features, float eps) {
  Vec total = {};
  each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
    const Vec v = load(row + c, lanes) + load(bias + c, lanes);
    store(row + c, v, lanes);
    total += v;
  });
  return moments(row, total, features, eps);
}

}  // namespace

extern "C" {

// h = LayerNorm(h + bias) weight + shift, in place.
void ecgforge_norm(float* h, int64_t row, const float* bias, const float* weight, const float* shift, float eps,
                   int length, int features) {
  for (int t = 0; t < length; ++t, h += row) {
    const auto [mean, scale] = biased_moments(h, bias, features, eps);
    const float m = mean, s = scale;
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      const Vec v = (load(h + c, lanes) - m) * s;
      store(h + c, v * load(weight + c, lanes) + load(shift + c, lanes), lanes);
    });
  }
}

// gated = tanh(first half) sigmoid(second half) of the same norm; h is left with its bias added.
void ecgforge_norm_gate(float* h, int64_t row, const float* bias, const float* weight, const float* shift, float eps,
                        float* gated, int length, int features) {
  const int half = features / 2;
  for (int t = 0; t < length; ++t, h += row, gated += half) {
    const auto [mean, scale] = biased_moments(h, bias, features, eps);
    const float m = mean, s = scale;
    each_vector(half, [&](int c, auto lanes) __attribute__((always_inline)) {
      const auto normed = [&](int at) __attribute__((always_inline)) {
        return (load(h + at, lanes) - m) * s * load(weight + at, lanes) + load(shift + at, lanes);
      };
      store(gated + c, gate(normed(c), normed(c + half)), lanes);
    });
  }
}

// The 3-tap convolution by Winograd's F(4, 3): four outputs of a time tile from six products instead of twelve.
// Forward transform of six rows of (x + shift), zeros beyond the record; tiles: (6, ceil(length / 4), features).
void ecgforge_tile(const float* x, int64_t row, const float* shift, float* tiles, int length, int features) {
  const int count = (length + 3) / 4;
  const int64_t plane = int64_t{count} * features;
  for (int tile = 0; tile < count; ++tile) {
    float* out = tiles + int64_t{tile} * features;
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      const Vec added = load(shift + c, lanes);
      Vec d[6];
      unroll<6>([&](auto i) __attribute__((always_inline)) {
        const int t = 4 * tile - 1 + i;
        d[i] = t >= 0 && t < length ? load(x + t * row + c, lanes) + added : Vec{};
      });
      const Vec even = d[4] - 4.0f * d[2], odd = d[3] - 4.0f * d[1];
      const Vec near = d[4] - d[2], far = 2.0f * (d[3] - d[1]);
      const Vec transformed[6] = {4.0f * d[0] - 5.0f * d[2] + d[4], even + odd, even - odd, near + far, near - far,
                                  4.0f * d[1] - 5.0f * d[3] + d[5]};
      unroll<6>([&](auto i) __attribute__((always_inline)) { store(out + i * plane + c, transformed[i], lanes); });
    });
  }
}

// Back from the products to h (length, features), bias added.
void ecgforge_untile(const float* tiles, const float* bias, float* h, int64_t row, int length, int features) {
  const int count = (length + 3) / 4;
  const int64_t plane = int64_t{count} * features;
  for (int tile = 0; tile < count; ++tile) {
    const float* in = tiles + int64_t{tile} * features;
    const int rows = length - 4 * tile;
    float* out = h + 4 * tile * row;
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      Vec m[6];
      unroll<6>([&](auto i) __attribute__((always_inline)) { m[i] = load(in + i * plane + c, lanes); });
      const Vec sum1 = m[1] + m[2], difference1 = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
      const Vec added = load(bias + c, lanes);
      const Vec y[4] = {m[0] + sum1 + sum2 + added, difference1 + 2.0f * difference2 + added,
                        sum1 + 4.0f * sum2 + added, difference1 + 8.0f * difference2 + m[5] + added};
      unroll<4>([&](auto i) __attribute__((always_inline)) {
        if (i < rows) store(out + i * row + c, y[i], lanes);
      });
    });
  }
}

// out = LayerNorm(x) weight + shift; rows without gaps.
void ecgforge_modulate(const float* x, const float* weight, const float* shift, float eps, float* out, int length,
                       int features) {
  for (int t = 0; t < length; ++t, x += features, out += features) {
    Vec total = {};
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) { total += load(x + c, lanes); });
    const auto [mean, scale] = moments(x, total, features, eps);
    const float m = mean, s = scale;
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      const Vec v = (load(x + c, lanes) - m) * s;
      store(out + c, v * load(weight + c, lanes) + load(shift + c, lanes), lanes);
    });
  }
}

// x += gate * (first half) sigmoid(second half) of the rows of wide + bias, twice as long.
void ecgforge_add_gated(float* x, const float* gate, const float* wide, const float* bias, int length, int features) {
  for (int t = 0; t < length; ++t, x += features, wide += 2 * features)
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      const int d = features + c;
      const Vec first = load(wide + c, lanes) + load(bias + c, lanes);
      const Vec second = load(wide + d, lanes) + load(bias + d, lanes);
      const Vec gated = first / (1.0f + exponential(-second));
      store(x + c, load(x + c, lanes) + load(gate + c, lanes) * gated, lanes);
    });
}

// x += gate * (y + bias).
void ecgforge_add_scaled(float* x, const float* gate, const float* y, const float* bias, int length, int features) {
  for (int t = 0; t < length; ++t, x += features, y += features)
    each_vector(features, [&](int c, auto lanes) __attribute__((always_inline)) {
      const Vec v = load(y + c, lanes) + load(bias + c, lanes);
      store(x + c, load(x + c, lanes) + load(gate + c, lanes) * v, lanes);
    });
}

// x = gelu(x + bias).
void ecgforge_gelu(float* x, const float* bias, int length, int features) {
  const int pairs = features / (2 * kLanes) * 2 * kLanes;
  for (int t = 0; t < length; ++t, x += features) {
    for (int c = 0; c < pairs; c += 2 * kLanes) {
      Vec a = load(x + c, Whole{}) + load(bias + c, Whole{});
      Vec b = load(x + c + kLanes, Whole{}) + load(bias + c + kLanes, Whole{});
      gelu(a, b);
      store(x + c, a, Whole{});
      store(x + c + kLanes, b, Whole{});
    }
    for (int c = pairs; c < features; c += kLanes) {
      const int lanes = features - c < kLanes ? features - c : kLanes;
      Vec a = load(x + c, lanes) + load(bias + c, lanes), b = {};
      gelu(a, b);
      store(x + c, a, lanes);
    }
  }
}

// Every row becomes its softmax; the row's maximum is subtracted before the exponential.
void ecgforge_softmax(float* x, int rows, int width) {
  for (int row = 0; row < rows; ++row, x += width) {
    Vec highest = x[0] - Vec{};
    each_vector(width, [&](int c, auto lanes) __attribute__((always_inline)) {
      Vec v = highest;
      std::memcpy(&v, x + c, sizeof(float) * lanes);
      highest = v > highest ? v : highest;
    });
    float top = highest[0];
    for (int i = 1; i < kLanes; ++i) top = highest[i] > top ? highest[i] : top;
    Vec total = {};
    each_vector(width, [&](int c, auto lanes) __attribute__((always_inline)) {
      Vec e = exponential(load(x + c, lanes) - top);
      store(x + c, e, lanes);
      if constexpr (!std::is_same_v<decltype(lanes), Whole>) e = load(x + c, lanes);
      total += e;
    });
    const float scale = 1.0f / sum(total);
    each_vector(width, [&](int c, auto lanes) __attribute__((always_inline)) {
      store(x + c, load(x + c, lanes) * scale, lanes);
    });
  }
}

}  // extern "C"
