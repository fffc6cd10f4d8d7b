// y = x W^T + b on the CPU for a W that is mostly zeros. docs/runtime.md tells how it works and why it is fast.
//
// The file includes itself once for each instruction set: vector types are lowered where a function is defined, so
// that each copy must carry its own target. What the processor has is asked at run time.
#ifndef CRAM_LEVEL
#ifdef __FAST_MATH__
#error "-ffast-math makes the library flush denormals in the whole process"
#endif
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pairs of bf16 weights are read as one number, the first of them its lower half"
#endif
#include <pthread.h>

#include <atomic>
#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#if defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 12
#define CRAM_KNOWS_FP16
#endif
#endif

namespace {

typedef void (*Team)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel of the OpenMP that PyTorch loaded

// Kept weights lie tile after tile (a tile: `tile` columns of W), row after row: values[i] stands in column columns[i]
// of the tile. The rows of a tile lie in blocks of ROWS, in a block the fullest first, so that a row is as long as the
// one before it nearly always and the processor foresees its end: place p of tile t holds row
// p / ROWS * ROWS + order[t * rows + p], as values[ends[t * (rows + 1) + p]] up to ends[... + 1]. Those of bf16 and
// fp16 come in pairs, bytes in fours: a byte q of row r stands for q * peaks[r] / 127, and totals[r] is the sum of the
// row's bytes; an fp16 v stands for v * peaks[r].
enum Kind { FP32, BF16, INT8, FP16 };

struct Linear {
  const float *x, *bias;
  float* y;
  int64_t tokens, rows, width;
  const int32_t* ends;
  const uint8_t *order, *columns;
  const void* values;
  const float* peaks;
  const int32_t* totals;
  int64_t tile;
  Kind kind;
  bool gelu;  // of the outputs
};

// Activations lie in panels of `tokens` tokens: a row of a panel is one column of x, so that a kept weight multiplies
// whole vectors. `pack` writes columns [from, to) of a panel; `rows` makes rows [from, to) of y out of it. With bytes,
// a row after the last one holds the scale of each token, written with the columns from 0 on; with fp16 too, whose
// panels have twice the tokens.
struct Level {
  int64_t tokens;
  void (*pack)(const Linear&, int64_t first, int64_t from, int64_t to, float* panel);
  void (*rows)(const Linear&, int64_t first, int64_t from, int64_t to, const float* panel, float* sums);
};

constexpr int64_t ROWS = 192;     // of y in a task, and of W in a block: their sums stay in the cache
constexpr int64_t COLUMNS = 256;  // of x in a task, or a multiple of it; a multiple of every vector's lanes
constexpr int64_t ALIGNMENT = 64;
constexpr float STEPS = 127;
constexpr float FLAT = 5.2f;  // the normal distribution is 0 or 1 beyond, to 1e-7
// Phi(x) - 1/2 over x as a polynomial in 2 (x / FLAT)^2 - 1, lowest power first: least squares whose weights were
// raised where the error of x Phi(x) was greatest, until it was even.
constexpr float PHI[] = {0x1.166cf4p-3f,  -0x1.157a64p-4f, 0x1.99ccc8p-5f, -0x1.471a72p-5f,  0x1.06136p-5f,
                         -0x1.951cfcp-6f, 0x1.26064cp-6f,  -0x1.996192p-7f, 0x1.192d5cp-7f,  -0x1.3b89f4p-8f,
                         0x1.d219dcp-10f, -0x1.3963c2p-10f, 0x1.4ecc76p-10f, -0x1.01808ap-11f};

int64_t up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

template <Kind KIND>
inline float value(const Linear& l, int64_t i) {
  return KIND == INT8 ? static_cast<const int8_t*>(l.values)[i] : static_cast<const float*>(l.values)[i];
}

inline void check(const Linear& l, int64_t tile, int64_t i) {  // in debug builds
  assert(i < l.ends[up(l.width, l.tile) / l.tile * (l.rows + 1) - 1]);
  assert(l.columns[i] < l.tile && tile * l.tile + l.columns[i] < l.width);
  (void)l, (void)tile, (void)i;
}

inline int64_t place(const Linear& l, int64_t tile, int64_t at, int64_t rows) {  // the row there, within its block
  const int64_t row = l.order[tile * l.rows + at];
  assert(row < rows);
  (void)rows;
  return row;
}

}  // namespace

#define CRAM_INLINE inline __attribute__((always_inline))
#define CRAM_NAME_(level) level_##level
#define CRAM_NAME(level) CRAM_NAME_(level)
#define CRAM_UNROLL _Pragma("GCC unroll 16")

#define CRAM_LEVEL plain
#define CRAM_BYTES 16
#define CRAM_VECTORS 8
#define CRAM_SUMS 1
#define CRAM_TARGET
#include "kernel.cpp"
#if defined(__x86_64__)
#define CRAM_LEVEL avx2
#define CRAM_BYTES 32
#define CRAM_VECTORS 8
#define CRAM_SUMS 1
#define CRAM_TARGET __attribute__((target("avx2,fma")))
#include "kernel.cpp"
#define CRAM_LEVEL avx512
#define CRAM_BYTES 64
#define CRAM_VECTORS 4
#define CRAM_SUMS 2
#define CRAM_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#include "kernel.cpp"
#define CRAM_LEVEL avx512_vnni
#define CRAM_BYTES 64
#define CRAM_VECTORS 4
#define CRAM_SUMS 2
#define CRAM_DOT_BYTES
#define CRAM_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#include "kernel.cpp"
#define CRAM_LEVEL avx512_bf16
#define CRAM_BYTES 64
#define CRAM_VECTORS 4
#define CRAM_SUMS 2
#define CRAM_DOT_BYTES
#define CRAM_DOT
#define CRAM_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,fma")))
#include "kernel.cpp"
#ifdef CRAM_KNOWS_FP16
#define CRAM_LEVEL avx512_fp16
#define CRAM_BYTES 64
#define CRAM_VECTORS 4
#define CRAM_SUMS 2
#define CRAM_DOT_BYTES
#define CRAM_FP16
#define CRAM_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512fp16,fma")))
#include "kernel.cpp"
#endif
#endif

namespace {

const Level LEVELS[] = {
    {level_plain::TOKENS, level_plain::pack, level_plain::rows},
#if defined(__x86_64__)
    {level_avx2::TOKENS, level_avx2::pack, level_avx2::rows},
    {level_avx512::TOKENS, level_avx512::pack, level_avx512::rows},
    {level_avx512_vnni::TOKENS, level_avx512_vnni::pack, level_avx512_vnni::rows},
    {level_avx512_bf16::TOKENS, level_avx512_bf16::pack, level_avx512_bf16::rows},
#ifdef CRAM_KNOWS_FP16
    {level_avx512_fp16::TOKENS, level_avx512_fp16::pack, level_avx512_fp16::rows},
#endif
#endif
};

class Buffer {  // one for each thread and purpose; grows, and goes with its thread
 public:
  ~Buffer() { free(data_); }
  float* floats(int64_t count) {
    if (count > size_) {
      free(data_);
      data_ = nullptr, size_ = 0;
      void* fresh = nullptr;
      if (posix_memalign(&fresh, ALIGNMENT, size_t(count) * sizeof(float))) throw std::bad_alloc();
      data_ = static_cast<float*>(fresh), size_ = count;
    }
    return data_;
  }

 private:
  float* data_ = nullptr;
  int64_t size_ = 0;
};

thread_local Buffer panels, sums;
std::atomic<bool> forked{false};  // an OpenMP team does not survive a fork: it would wait for threads that are gone
const int watching = pthread_atfork(nullptr, nullptr, [] { forked = true; });

template <class Work>
struct Crew {
  const Work& work;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};

  static void enter(void* self) {  // each thread takes tasks until there are none, however many came
    auto* crew = static_cast<Crew*>(self);
    try {
      for (int64_t i; (i = crew->next++) < crew->tasks;) crew->work(i);
    } catch (...) {
      crew->failed = true;
    }
  }
};

template <class Work>
void share(int64_t tasks, int threads, Team team, const Work& work) {
  Crew<Work> crew{work, tasks};
  if (threads > 1 && tasks > 1 && team && !forked) {
    team(Crew<Work>::enter, &crew, unsigned(threads), 0);
  } else {
    std::vector<std::thread> others;
    try {
      for (int64_t i = 1; i < threads && i < tasks; i++) others.emplace_back(Crew<Work>::enter, &crew);
    } catch (...) {  // no more threads to be had: those that are there do it all
    }
    Crew<Work>::enter(&crew);
    for (auto& other : others) other.join();
  }
  if (crew.failed) throw std::bad_alloc();
}

void multiply(const Linear& l, const Level& level, int threads, Team team) {
  const int64_t tokens = l.kind == FP16 ? 2 * level.tokens : level.tokens;
  const int64_t count = (l.tokens + tokens - 1) / tokens, parts = (l.rows + ROWS - 1) / ROWS;
  const int64_t size = up(l.width, COLUMNS) * level.tokens + tokens, room = ROWS * tokens;
  if (threads == 1 || count % threads == 0 || count >= 4 * threads) {  // whole panels share the work evenly
    share(count, threads, team, [&](int64_t i) {
      float* panel = panels.floats(size);
      level.pack(l, i * tokens, 0, l.width, panel);
      for (int64_t r = 0; r < l.rows; r += ROWS)
        level.rows(l, i * tokens, r, r + ROWS < l.rows ? r + ROWS : l.rows, panel, sums.floats(room));
    });
    return;
  }
  const int64_t wanted = up(2 * threads, count) / count;  // no more: each piece asks for the scales of its tokens
  const int64_t wide = up((l.width + wanted - 1) / wanted, COLUMNS), pieces = l.width ? up(l.width, wide) / wide : 1;
  float* all = panels.floats(count * size);
  share(count * pieces, threads, team, [&](int64_t i) {
    const int64_t from = i % pieces * wide, to = from + wide < l.width ? from + wide : l.width;
    level.pack(l, i / pieces * tokens, from, to, all + i / pieces * size);
  });
  share(count * parts, threads, team, [&](int64_t i) {
    const int64_t from = i % parts * ROWS, to = from + ROWS < l.rows ? from + ROWS : l.rows;
    level.rows(l, i / parts * tokens, from, to, all + i / parts * size, sums.floats(room));
  });
}

}  // namespace

extern "C" {

int cram_hf_version() { return 6; }

// 0 plain, 1 AVX2, 2 AVX-512, 3 AVX-512 with dot products of bytes, 4 of bf16 too, 5 with arithmetic of fp16 as well.
int cram_hf_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return 1;
  if (!__builtin_cpu_supports("avx512vnni")) return 2;
  if (!__builtin_cpu_supports("avx512bf16")) return 3;
#ifdef CRAM_KNOWS_FP16
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 23 & 1) return 5;
#endif
  return 4;
#else
  return 0;
#endif
}

// The one to take of those. Intel's processors have dot products of bf16 but are slower with them (measured on an
// Emerald Rapids), so that the level before is the faster one there, at bf16 too. That of fp16 does not use them either:
// it is taken on Intel's alone.
int cram_hf_choice() {
  const int level = cram_hf_level();
#if defined(__x86_64__)
  if (__builtin_cpu_is("intel")) return level == 4 ? 3 : level;
  if (level == 5) return 4;
#endif
  return level;
}

// x (tokens, width) and y (tokens, rows) are contiguous; with `gelu`, y is x Phi(x) of the sums, Phi the normal
// distribution. Returns 0, or 1 if there was no memory. The sum of an output runs in the same order whatever the batch
// and the number of threads.
int cram_hf_linear(const float* x, const float* bias, float* y, int64_t tokens, int64_t rows, int64_t width,
                   const int32_t* ends, const uint8_t* order, const uint8_t* columns, const void* values,
                   const float* peaks, const int32_t* totals, int64_t tile, int kind, int gelu, int level,
                   int threads, Team team) {
  assert(level >= 0 && level <= cram_hf_level() && threads > 0 && tile > 0 && tile <= 256);
  assert(kind >= 0 && kind <= (level == 5 ? FP16 : INT8));
  try {
    const Linear linear{x,      bias,  y,      tokens, rows,       width,    ends, order, columns,
                        values, peaks, totals, tile,   Kind(kind), gelu != 0};
    if (tokens && rows) multiply(linear, LEVELS[level], threads, team);
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}
}

#else  // what follows is read once for each instruction set

namespace {
namespace CRAM_NAME(CRAM_LEVEL) {

constexpr int64_t LANES = CRAM_BYTES / 4, TOKENS = CRAM_VECTORS * LANES;
typedef float Floats __attribute__((vector_size(CRAM_BYTES), may_alias));
typedef float Loose __attribute__((vector_size(CRAM_BYTES), may_alias, aligned(4)));
typedef int32_t Ints __attribute__((vector_size(CRAM_BYTES), may_alias));
typedef uint32_t Bits __attribute__((vector_size(CRAM_BYTES), may_alias));

#if defined(__clang__)
#define CRAM_PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CRAM_PICK(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#endif
#if CRAM_BYTES == 16
#define CRAM_LOW 0, 4, 1, 5
#define CRAM_HIGH 2, 6, 3, 7
#elif CRAM_BYTES == 32
#define CRAM_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define CRAM_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define CRAM_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define CRAM_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#endif

// Riffling the upper half of the vectors into the lower one moves each address bit up by one; after log2(LANES) rounds
// row and column have changed places.
CRAM_TARGET CRAM_INLINE void transpose(Floats* r) {
  CRAM_UNROLL
  for (int64_t round = 1; round < LANES; round *= 2) {
    Floats t[LANES];
    CRAM_UNROLL
    for (int64_t i = 0; i < LANES / 2; i++) {
      t[2 * i] = CRAM_PICK(r[i], r[i + LANES / 2], CRAM_LOW);
      t[2 * i + 1] = CRAM_PICK(r[i], r[i + LANES / 2], CRAM_HIGH);
    }
    CRAM_UNROLL
    for (int64_t i = 0; i < LANES; i++) r[i] = t[i];
  }
}

// LANES tokens from `token` on, LANES columns from `column` on, transposed; zeros where x ends. With `factors` each
// token is multiplied by its own; a token whose factor is 0 becomes zeros, whatever it held.
CRAM_TARGET CRAM_INLINE void block(const Linear& l, int64_t token, int64_t column, const float* factors, Floats* r) {
  const int64_t there = l.width - column;
  CRAM_UNROLL
  for (int64_t i = 0; i < LANES; i++) {
    r[i] = Floats{};
    if (token + i >= l.tokens || (factors && factors[i] == 0)) continue;
    const float* x = l.x + (token + i) * l.width + column;
    if (there >= LANES)
      r[i] = *reinterpret_cast<const Loose*>(x);
    else
      memcpy(&r[i], x, size_t(there) * sizeof(float));
    if (factors) r[i] *= factors[i];
  }
  transpose(r);
}

CRAM_TARGET CRAM_INLINE float* token_scales(const Linear& l, float* panel) {
  return panel + up(l.width, COLUMNS) * TOKENS;
}

// What takes each token to whole numbers up to 127 in magnitude. Magnitudes are compared as bits, so that a NaN is the
// greatest: a token that is not finite gets the scale NaN, and with it NaN everywhere. Tiny ones count as zeros.
// With fp16 it is the power of two that takes the greatest finite magnitude to 1 or more, below 2; one of 2^127 or more
// to 2 or more, below 4, since the next power has a denormal reciprocal.
CRAM_TARGET void token_factors(const Linear& l, int64_t first, int64_t tokens, bool keep, float* panel,
                               float* factors) {
  for (int64_t j = 0; j < tokens; j++) {
    Ints most{};
    if (first + j < l.tokens)
      for (int64_t k = 0; k < l.width; k += LANES) {
        const float* x = l.x + (first + j) * l.width + k;
        Floats part{};
        if (l.width - k >= LANES)
          part = *reinterpret_cast<const Loose*>(x);
        else
          memcpy(&part, x, size_t(l.width - k) * sizeof(float));
        Ints bits = (Ints)part & 0x7fffffff;
        if (l.kind == FP16) bits = bits < 0x7f800000 ? bits : Ints{};
        most = bits > most ? bits : most;
      }
    int32_t bits = 0;
    for (int64_t i = 0; i < LANES; i++) bits = most[i] > bits ? most[i] : bits;
    if (l.kind == FP16) {
      const int32_t power = bits >> 23 < 1 ? 1 : bits >> 23 > 253 ? 253 : bits >> 23;
      const int32_t scale = power << 23;
      const int32_t down = (254 - power) << 23;
      memcpy(&factors[j], &down, sizeof down);
      if (keep) memcpy(&token_scales(l, panel)[j], &scale, sizeof scale);
      continue;
    }
    float peak;
    memcpy(&peak, &bits, sizeof peak);
    const bool finite = bits < 0x7f800000;
    factors[j] = finite && peak > 1e-30f ? STEPS / peak : 0;
    if (keep) token_scales(l, panel)[j] = finite ? peak / (STEPS * STEPS) : __builtin_nanf("");
  }
}

// How many vectors of tokens a panel has. Where two of them are worked at together there are two at least.
CRAM_TARGET CRAM_INLINE int64_t vectors(const Linear& l, int64_t first) {
#ifdef CRAM_DOT
  const int64_t least = l.kind == BF16 ? 2 : 1;
#else
  const int64_t least = l.kind == FP16 ? 2 : 1;
#endif
  int64_t count = l.kind == FP16 ? 2 * CRAM_VECTORS : CRAM_VECTORS;
  while (count > least && count / 2 * LANES >= l.tokens - first) count /= 2;
  return count;
}

// To bf16 and back: to nearest, ties to even; NaN stays NaN.
CRAM_TARGET CRAM_INLINE void round_to_bf16(Floats& value) {
  const Bits bits = (Bits)value, number = (Bits)(value == value);
  const Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) & number;
  value = (Floats)((rounded | ((bits | 0x400000) & ~number)) & 0xffff0000u);
}

// To whole numbers: to nearest, ties to even. It comes after a transposition: a multiplication and this addition, side
// by side, would be one instruction on some processors and round otherwise.
CRAM_TARGET CRAM_INLINE void round_to_whole(Floats& value) { value = (value + 0x1.8p23f) - 0x1.8p23f; }

CRAM_TARGET void pack_floats(const Linear& l, int64_t first, int64_t from, int64_t to, float* panel) {
  const int64_t wide = vectors(l, first) * LANES;
  float factors[TOKENS];
  if (l.kind == INT8) token_factors(l, first, TOKENS, from == 0, panel, factors);
  for (int64_t j = 0; j < wide; j += LANES)
    for (int64_t k = from; k < to; k += LANES) {
      Floats r[LANES];
      block(l, first + j, k, l.kind == INT8 ? factors + j : nullptr, r);
      CRAM_UNROLL
      for (int64_t i = 0; i < LANES; i++) {
        if (l.kind == BF16) round_to_bf16(r[i]);
        if (l.kind == INT8) round_to_whole(r[i]);
        *reinterpret_cast<Floats*>(panel + (k + i) * wide + j) = r[i];
      }
    }
}

// The column of a panel that a weight multiplies. With several vectors its address is made once, not in each of their
// multiplications.
template <int V>
CRAM_TARGET CRAM_INLINE const Floats* vectors_of(const Floats* tile, uint64_t column) {
  const Floats* x = tile + column * V;
  if (V > 1) __asm__("" : "+r"(x));
  return x;
}

// With CRAM_SUMS 2 an output has two sums, so that a multiplication need not wait for the last one; AVX2 lacks the
// registers. Their order is the same whatever V is. With bytes the sums are whole numbers, within a tile below 2^24
// and so exact in floats; over the tiles they are added as integers.
template <int V, Kind KIND>
CRAM_TARGET void add_floats(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel, Floats* sums) {
  const int32_t* ends = l.ends + t * (l.rows + 1);
  const Floats* tile = reinterpret_cast<const Floats*>(panel) + t * l.tile * V;
  __asm__("" : "+r"(tile));  // else GCC takes it apart again and adds twice for each weight
  const uint8_t* columns = l.columns;
  for (int64_t o = from; o < to; o++) {
    const int64_t row = place(l, t, o, to - from);
    Floats* out = sums + row * V;
    Floats sum[CRAM_SUMS][V];
    for (int v = 0; v < V; v++) {
      sum[CRAM_SUMS - 1][v] = Floats{};
      sum[0][v] = KIND == INT8 ? Floats{} : t ? out[v] : Floats{} + (l.bias ? l.bias[from + row] : 0.f);
    }
    const int64_t end = ends[o + 1], last = end - 1;
    for (int64_t p = ends[o]; p < end; p += 2) {
      Floats factors[2];
      if (KIND == BF16) {
        uint32_t pair;
        memcpy(&pair, static_cast<const uint16_t*>(l.values) + p, sizeof pair);
        factors[0] = (Floats)((Bits{} + pair) << 16), factors[1] = (Floats)((Bits{} + pair) & 0xffff0000u);
      }
      CRAM_UNROLL
      for (int s = 0; s < 2; s++) {
        if (KIND == FP32 && s && p == last) break;
        check(l, t, p + s);
        const Floats* x = vectors_of<V>(tile, columns[p + s]);
        if (KIND != BF16) factors[s] = value<KIND>(l, p + s) - Floats{};  // a sum would change -0, and be computed
        CRAM_UNROLL
        for (int v = 0; v < V; v++) sum[CRAM_SUMS > 1 ? s : 0][v] += factors[s] * x[v];
      }
    }
    for (int v = 0; v < V; v++) {
      const Floats whole = CRAM_SUMS > 1 ? sum[0][v] + sum[CRAM_SUMS - 1][v] : sum[0][v];
      if (KIND == INT8)
        out[v] = (Floats)((t ? (Ints)out[v] : Ints{}) + __builtin_convertvector(whole, Ints));
      else
        out[v] = whole;
    }
  }
}

#ifdef CRAM_DOT
// Of 32 tokens each quarter of a vector holds four of the first half and four of the second: what unpacking two such
// rows gives is then in order.
CRAM_TARGET void pack_bf16(const Linear& l, int64_t first, int64_t from, int64_t to, float* panel) {
  const int64_t wide = vectors(l, first) * LANES;
  const __m512i quarters = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (int64_t j = 0; j < wide; j += 2 * LANES)
    for (int64_t k = from; k < to; k += LANES) {
      Floats r[LANES], s[LANES];
      block(l, first + j, k, nullptr, r);
      block(l, first + j + LANES, k, nullptr, s);
      CRAM_UNROLL
      for (int64_t i = 0; i < LANES; i++) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)s[i], (__m512)r[i]);
        _mm512_store_si512(panel + ((k + i) * wide + j) / 2, _mm512_permutexvar_epi64(quarters, both));
      }
    }
}

template <int V>
CRAM_TARGET void add_bf16(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel, Floats* sums) {
  const int32_t* ends = l.ends + t * (l.rows + 1);
  const float* tile = panel + t * l.tile * V * LANES / 2;
  for (int64_t o = from; o < to; o++) {
    const int64_t row = place(l, t, o, to - from);
    Floats* out = sums + row * V;
    __m512 sum[CRAM_SUMS][V];
    for (int v = 0; v < V; v++) {
      sum[0][v] = t ? (__m512)out[v] : _mm512_set1_ps(l.bias ? l.bias[from + row] : 0.f);
      sum[1][v] = _mm512_setzero_ps();
    }
    const int64_t end = ends[o + 1];
    for (int64_t p = ends[o]; p < end; p += 2 * CRAM_SUMS) {
      CRAM_UNROLL
      for (int s = 0; s < CRAM_SUMS; s++) {
        const int64_t i = p + 2 * s;
        if (s && i >= end) break;
        check(l, t, i), check(l, t, i + 1);
        const __m512i* x = reinterpret_cast<const __m512i*>(tile + l.columns[i] * V * LANES / 2);
        const __m512i* z = reinterpret_cast<const __m512i*>(tile + l.columns[i + 1] * V * LANES / 2);
        int32_t pair;
        memcpy(&pair, static_cast<const uint16_t*>(l.values) + i, sizeof pair);
        const __m512bh factors = (__m512bh)_mm512_set1_epi32(pair);
        CRAM_UNROLL
        for (int v = 0; v < V; v += 2) {
          __m512i a = x[v / 2], b = z[v / 2];
          __asm__("" : "+v"(a), "+v"(b));  // else GCC loads each of them twice
          const __m512i low = _mm512_unpacklo_epi16(a, b), high = _mm512_unpackhi_epi16(a, b);
          sum[s][v] = _mm512_dpbf16_ps(sum[s][v], (__m512bh)low, factors);
          sum[s][v + 1] = _mm512_dpbf16_ps(sum[s][v + 1], (__m512bh)high, factors);
        }
      }
    }
    for (int v = 0; v < V; v++) out[v] = (Floats)_mm512_add_ps(sum[0][v], sum[1][v]);
  }
}
#endif

#ifdef CRAM_FP16
// A vector holds the 16-bit floats of 32 tokens.
CRAM_TARGET void pack_fp16(const Linear& l, int64_t first, int64_t from, int64_t to, float* panel) {
  const int64_t wide = vectors(l, first) * LANES;
  float factors[2 * TOKENS];
  token_factors(l, first, wide, from == 0, panel, factors);
  for (int64_t j = 0; j < wide; j += 2 * LANES)
    for (int64_t k = from; k < to; k += LANES) {
      Floats r[LANES], s[LANES];
      block(l, first + j, k, factors + j, r);
      block(l, first + j + LANES, k, factors + j + LANES, s);
      CRAM_UNROLL
      for (int64_t i = 0; i < LANES; i++) {
        auto* x = reinterpret_cast<__m256i*>(panel + ((k + i) * wide + j) / 2);
        _mm256_store_si256(x, _mm512_cvtps_ph((__m512)r[i], _MM_FROUND_TO_NEAREST_INT));
        _mm256_store_si256(x + 1, _mm512_cvtps_ph((__m512)s[i], _MM_FROUND_TO_NEAREST_INT));
      }
    }
}

// Sums are fp16 within a tile, two for each output; over the tiles they are added in fp32. Activations are at most 4 in
// magnitude and weights at most 64, so that no sum over 192 columns is too great for fp16.
template <int V>
CRAM_TARGET void add_fp16(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel, Floats* sums) {
  const int32_t* ends = l.ends + t * (l.rows + 1);
  const Floats* tile = reinterpret_cast<const Floats*>(panel) + t * l.tile * V;
  __asm__("" : "+r"(tile));
  const __m512i first = _mm512_set1_epi16(0x0100), second = _mm512_set1_epi16(0x0302);  // of a pair, to all places
  for (int64_t o = from; o < to; o++) {
    const int64_t row = place(l, t, o, to - from);
    Floats* out = sums + row * 2 * V;
    __m512h sum[2][V];
    for (int v = 0; v < V; v++) sum[0][v] = sum[1][v] = _mm512_setzero_ph();
    const int64_t end = ends[o + 1];
    for (int64_t p = ends[o]; p < end; p += 2) {
      int32_t pair;
      memcpy(&pair, static_cast<const uint16_t*>(l.values) + p, sizeof pair);
      const __m512i both = _mm512_set1_epi32(pair);
      CRAM_UNROLL
      for (int s = 0; s < 2; s++) {
        check(l, t, p + s);
        const Floats* x = vectors_of<V>(tile, l.columns[p + s]);
        const __m512h factor = (__m512h)_mm512_shuffle_epi8(both, s ? second : first);
        CRAM_UNROLL
        for (int v = 0; v < V; v++) sum[s][v] = _mm512_fmadd_ph(factor, (__m512h)x[v], sum[s][v]);
      }
    }
    for (int v = 0; v < V; v++) {
      const __m512i whole = (__m512i)_mm512_add_ph(sum[0][v], sum[1][v]);
      const Floats low = (Floats)_mm512_cvtph_ps(_mm512_castsi512_si256(whole));
      const Floats high = (Floats)_mm512_cvtph_ps(_mm512_extracti64x4_epi64(whole, 1));
      out[2 * v] = t ? out[2 * v] + low : low, out[2 * v + 1] = t ? out[2 * v + 1] + high : high;
    }
  }
}
#endif

#ifdef CRAM_DOT_BYTES
// Bytes have 128 added to them: the instruction takes those without a sign on this side. With more than 32 tokens a
// column of a panel is 64 bytes, one for each token; narrowing four vectors leaves them in the order that interleaving
// four columns puts right again. With fewer, each token has its byte four times, so that four columns can be blended.
template <int V>
CRAM_TARGET void pack_bytes(const Linear& l, int64_t first, int64_t from, int64_t to, float* panel) {
  const __m512i fourfold = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0), half = _mm512_set1_epi8(-128);
  float factors[TOKENS];
  token_factors(l, first, TOKENS, from == 0, panel, factors);
  for (int64_t k = from; k < to; k += LANES) {
    Floats r[V][LANES];
    CRAM_UNROLL
    for (int64_t v = 0; v < V; v++) block(l, first + v * LANES, k, factors + v * LANES, r[v]);
    CRAM_UNROLL
    for (int64_t i = 0; i < LANES; i++) {
      __m512i whole[V];
      for (int64_t v = 0; v < V; v++) whole[v] = _mm512_cvtps_epi32((__m512)r[v][i]);
      if constexpr (V == CRAM_VECTORS) {
        const __m512i low = _mm512_packs_epi32(whole[0], whole[1]), high = _mm512_packs_epi32(whole[2], whole[3]);
        _mm512_store_si512(panel + (k + i) * LANES, _mm512_xor_si512(_mm512_packs_epi16(low, high), half));
      } else {
        for (int64_t v = 0; v < V; v++)
          _mm512_store_si512(panel + ((k + i) * V + v) * LANES,
                             _mm512_xor_si512(_mm512_shuffle_epi8(whole[v], fourfold), half));
      }
    }
  }
}

template <int V>
CRAM_TARGET void add_few_bytes(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel,
                               Floats* sums) {
  const int32_t* ends = l.ends + t * (l.rows + 1);
  const __m512i* tile = reinterpret_cast<const __m512i*>(panel) + t * l.tile * V;
  for (int64_t o = from; o < to; o++) {
    const int64_t row = place(l, t, o, to - from);
    Floats* out = sums + row * V;
    __m512i sum[CRAM_SUMS][V];
    for (int v = 0; v < V; v++) {
      sum[0][v] = t ? (__m512i)out[v] : _mm512_set1_epi32(-128 * l.totals[from + row]);
      sum[1][v] = _mm512_setzero_si512();
    }
    const int64_t end = ends[o + 1];
    for (int64_t p = ends[o]; p < end; p += 4 * CRAM_SUMS) {
      CRAM_UNROLL
      for (int s = 0; s < CRAM_SUMS; s++) {
        const int64_t q = p + 4 * s;
        if (s && q >= end) break;
        for (int i = 0; i < 4; i++) check(l, t, q + i);
        uint32_t at;
        int32_t four;
        memcpy(&at, l.columns + q, sizeof at);
        memcpy(&four, static_cast<const int8_t*>(l.values) + q, sizeof four);
        const __m512i *a = tile + (at & 255) * V, *b = tile + (at >> 8 & 255) * V;
        const __m512i *c = tile + (at >> 16 & 255) * V, *d = tile + (at >> 24) * V;
        const __m512i factors = _mm512_set1_epi32(four);
        CRAM_UNROLL
        for (int v = 0; v < V; v++) {
          __m512i x = _mm512_mask_mov_epi8(a[v], 0x2222222222222222, b[v]);
          x = _mm512_mask_mov_epi8(x, 0x4444444444444444, c[v]);
          x = _mm512_mask_mov_epi8(x, 0x8888888888888888, d[v]);
          sum[s][v] = _mm512_dpbusd_epi32(sum[s][v], x, factors);
        }
      }
    }
    for (int v = 0; v < V; v++) out[v] = (Floats)_mm512_add_epi32(sum[0][v], sum[1][v]);
  }
}

CRAM_TARGET void add_bytes(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel, Floats* sums) {
  const int32_t* ends = l.ends + t * (l.rows + 1);
  const __m512i* tile = reinterpret_cast<const __m512i*>(panel) + t * l.tile;
  for (int64_t o = from; o < to; o++) {
    const int64_t row = place(l, t, o, to - from);
    Floats* out = sums + row * CRAM_VECTORS;
    __m512i sum[CRAM_VECTORS];
    for (int v = 0; v < CRAM_VECTORS; v++)
      sum[v] = t ? (__m512i)out[v] : _mm512_set1_epi32(-128 * l.totals[from + row]);
    const int64_t end = ends[o + 1];
    for (int64_t p = ends[o]; p < end; p += 4) {
      for (int i = 0; i < 4; i++) check(l, t, p + i);
      int32_t four;
      memcpy(&four, static_cast<const int8_t*>(l.values) + p, sizeof four);
      const uint8_t* at = l.columns + p;
      __m512i a = tile[at[0]], b = tile[at[1]], c = tile[at[2]], d = tile[at[3]];
      __asm__("" : "+v"(a), "+v"(b), "+v"(c), "+v"(d));  // else GCC loads each of them twice
      const __m512i factors = _mm512_set1_epi32(four);
      const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
      const __m512i next = _mm512_unpacklo_epi8(c, d), last = _mm512_unpackhi_epi8(c, d);
      sum[0] = _mm512_dpbusd_epi32(sum[0], _mm512_unpacklo_epi16(low, next), factors);
      sum[1] = _mm512_dpbusd_epi32(sum[1], _mm512_unpackhi_epi16(low, next), factors);
      sum[2] = _mm512_dpbusd_epi32(sum[2], _mm512_unpacklo_epi16(high, last), factors);
      sum[3] = _mm512_dpbusd_epi32(sum[3], _mm512_unpackhi_epi16(high, last), factors);
    }
    for (int v = 0; v < CRAM_VECTORS; v++) out[v] = (Floats)sum[v];
  }
}
#endif

CRAM_TARGET void pack(const Linear& l, int64_t first, int64_t from, int64_t to, float* panel) {
#ifdef CRAM_DOT
  if (l.kind == BF16) return pack_bf16(l, first, from, to, panel);
#endif
#ifdef CRAM_FP16
  if (l.kind == FP16) return pack_fp16(l, first, from, to, panel);
#endif
#ifdef CRAM_DOT_BYTES
  if (l.kind == INT8) {
    const int64_t count = vectors(l, first);
    const auto pack_for = count == 1 ? pack_bytes<1> : count == 2 ? pack_bytes<2> : pack_bytes<CRAM_VECTORS>;
    return pack_for(l, first, from, to, panel);
  }
#endif
  pack_floats(l, first, from, to, panel);
}

template <int V>
CRAM_TARGET CRAM_INLINE void add(const Linear& l, int64_t t, int64_t from, int64_t to, const float* panel,
                                 Floats* sum) {
#ifdef CRAM_FP16
  if constexpr (V > CRAM_VECTORS) return add_fp16<V / 2>(l, t, from, to, panel, sum);
  if constexpr (V > 1)
    if (l.kind == FP16) return add_fp16<V / 2>(l, t, from, to, panel, sum);
#endif
  if (l.kind == FP32) return add_floats<V, FP32>(l, t, from, to, panel, sum);
#ifdef CRAM_DOT
  if (l.kind == BF16 && V > 1) return add_bf16<V>(l, t, from, to, panel, sum);
#else
  if (l.kind == BF16) return add_floats<V, BF16>(l, t, from, to, panel, sum);
#endif
#ifdef CRAM_DOT_BYTES
  if (l.kind == INT8 && V == CRAM_VECTORS) return add_bytes(l, t, from, to, panel, sum);
  if (l.kind == INT8) return add_few_bytes<V>(l, t, from, to, panel, sum);
#else
  if (l.kind == INT8) return add_floats<V, INT8>(l, t, from, to, panel, sum);
#endif
}

// x Phi(x), with an error below 1e-6 as that of PyTorch; NaN stays NaN.
CRAM_TARGET CRAM_INLINE void apply_gelu(Floats& x) {
  const Floats top = Floats{} + FLAT, at = x * x * (2 / (FLAT * FLAT)) - 1;
  Floats phi = Floats{} + PHI[13];
  CRAM_UNROLL
  for (int i = 12; i >= 0; i--) phi = phi * at + PHI[i];
  phi = 0.5f + x * phi;
  phi = x > top ? Floats{} + 1 : phi;
  x *= x < -top ? Floats{} : phi;
}

// Rows [o, o + LANES) of LANES tokens, transposed. The bias of bytes is added after it: see round_to_whole.
CRAM_TARGET CRAM_INLINE void finished(const Linear& l, int64_t o, int64_t to, const float* sums, int64_t wide,
                                      const float* scales, Floats* r) {
  const int64_t there = o + LANES <= to ? LANES : to - o;
  CRAM_UNROLL
  for (int64_t i = 0; i < LANES; i++) {
    r[i] = *reinterpret_cast<const Floats*>(sums + i * wide);
    if (l.kind != INT8 && l.kind != FP16) continue;
    const float peak = i < there ? l.peaks[o + i] : 1;
    const Floats scale = *reinterpret_cast<const Loose*>(scales);
    if (l.kind == INT8) r[i] = __builtin_convertvector((Ints)r[i], Floats) * scale * peak;
#ifdef CRAM_FP16  // powers of two, whose product may be none of fp32: their exponents are added
    if (l.kind == FP16) {
      const __m512 power = _mm512_getexp_ps((__m512)scale) + _mm512_getexp_ps(_mm512_set1_ps(peak));
      r[i] = (Floats)_mm512_scalef_ps((__m512)r[i], power);
    }
#endif
  }
  transpose(r);
  if ((l.kind == INT8 || l.kind == FP16) && l.bias) {
    Floats bias{};
    memcpy(&bias, l.bias + o, size_t(there) * sizeof(float));
    CRAM_UNROLL
    for (int64_t i = 0; i < LANES; i++) r[i] += bias;
  }
  if (!l.gelu) return;
  CRAM_UNROLL
  for (int64_t i = 0; i < LANES; i++) apply_gelu(r[i]);
}

template <int V>
CRAM_TARGET void rows_of(const Linear& l, int64_t first, int64_t from, int64_t to, const float* panel, float* sums) {
  for (int64_t t = 0; t == 0 || t * l.tile < l.width; t++)
    add<V>(l, t, from, to, panel, reinterpret_cast<Floats*>(sums));
  const float* scales = token_scales(l, const_cast<float*>(panel));
  for (int64_t o = from; o < to; o += LANES)
    for (int64_t j = 0; j < V * LANES && first + j < l.tokens; j += LANES) {
      Floats r[LANES];
      finished(l, o, to, sums + (o - from) * V * LANES + j, V * LANES, scales + j, r);
      for (int64_t i = 0; i < LANES && first + j + i < l.tokens; i++) {
        float* y = l.y + (first + j + i) * l.rows + o;
        if (o + LANES <= to)
          *reinterpret_cast<Loose*>(y) = r[i];
        else
          memcpy(y, &r[i], size_t(to - o) * sizeof(float));
      }
    }
}

CRAM_TARGET void rows(const Linear& l, int64_t first, int64_t from, int64_t to, const float* panel, float* sums) {
  const int64_t count = vectors(l, first);
  if (count == 1) return rows_of<1>(l, first, from, to, panel, sums);
  if (count == 2) return rows_of<2>(l, first, from, to, panel, sums);
  if (count == 4) return rows_of<4>(l, first, from, to, panel, sums);
#ifdef CRAM_FP16
  rows_of<2 * CRAM_VECTORS>(l, first, from, to, panel, sums);
#else
  rows_of<CRAM_VECTORS>(l, first, from, to, panel, sums);
#endif
}

}  // namespace CRAM_NAME(CRAM_LEVEL)
}  // namespace

#undef CRAM_LEVEL
#undef CRAM_BYTES
#undef CRAM_VECTORS
#undef CRAM_SUMS
#undef CRAM_TARGET
#undef CRAM_DOT
#undef CRAM_DOT_BYTES
#undef CRAM_FP16
#undef CRAM_PICK
#undef CRAM_LOW
#undef CRAM_HIGH
#endif
