// Runs the kernel over many shapes, to be compiled with sanitizers and asserts; compares with a plain sum in double.
// With an argument, one layer whose columns lie outside of W: an assert must end the program.
#include "kernel.cpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>

namespace {

std::mt19937 source(0);

float number() { return std::uniform_real_distribution<float>(-1, 1)(source); }

// What weights of this kind hold without rounding; in fp16 so few bits that no sum is rounded either.
float held(float value, int kind) {
  if (kind == INT8) return std::nearbyint(value * 127);
  if (kind == FP16) return std::nearbyint(value * 4) / 4;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (kind == BF16) bits &= 0xffff0000u;
  memcpy(&value, &bits, sizeof bits);
  return value;
}

// Arrays of exactly the size that is told, so that a step past the end is found.
bool product(int64_t tokens, int64_t rows, int64_t width, double zeros, int kind, bool gelu, int level, int threads,
             uint8_t shift = 0) {
  const int64_t tile = kind == FP32 ? 128 : kind == FP16 ? 192 : 256, tiles = width ? (width + tile - 1) / tile : 1;
  std::vector<float> x(tokens * width), bias(rows), y(tokens * rows), w(rows * width);
  for (auto& v : x) v = held(number(), kind);
  for (int64_t n = 0; n < tokens && width && kind == INT8; n++) x[n * width] = 127;  // so that no token is rounded
  for (auto& v : bias) v = number();
  for (auto& v : w) v = std::abs(number()) < zeros ? 0 : held(number(), kind);
  std::vector<int32_t> ends;
  std::vector<uint8_t> columns, order;
  std::vector<float> wide;
  for (int64_t t = 0; t < tiles; t++) {
    ends.push_back(int32_t(columns.size()));
    for (int64_t p = 0; p < rows; p++) {  // within a block backwards
      const int64_t block = p / ROWS * ROWS, last = std::min(rows, block + ROWS) - 1, r = last - (p - block);
      order.push_back(uint8_t(r - block));
      const size_t before = columns.size();
      for (int64_t k = t * tile; k < width && k < (t + 1) * tile; k++)
        if (w[r * width + k] != 0) columns.push_back(uint8_t(k - t * tile)), wide.push_back(w[r * width + k]);
      while (kind == INT8 && (columns.size() - before) % 4) columns.push_back(columns.back()), wide.push_back(0);
      if ((kind == BF16 || kind == FP16) && (columns.size() - before) % 2) {
        wide.back() /= 2;
        columns.push_back(columns.back()), wide.push_back(wide.back());
      }
      ends.push_back(int32_t(columns.size()));
    }
  }
  for (auto& column : columns) column += shift;
  std::vector<uint16_t> narrow;
  for (float v : wide) {
    if (kind == FP16) v /= 2;  // as `peaks` tells
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if (kind == BF16) narrow.push_back(uint16_t(bits >> 16));
    const uint32_t magnitude = v != 0 ? ((bits >> 13) - (112 << 10)) & 0x7fff : 0;
    if (kind == FP16) narrow.push_back(uint16_t((bits >> 16 & 0x8000) | magnitude));
  }
  std::vector<int8_t> bytes(wide.begin(), kind == INT8 ? wide.end() : wide.begin());
  std::vector<float> peaks(rows, kind == INT8 ? 127 : 2);
  std::vector<int32_t> totals(rows);
  for (int64_t i = 0; i < rows * width; i++) totals[i / width] += kind == INT8 ? int32_t(w[i]) : 0;
  const void* all[] = {wide.data(), narrow.data(), bytes.data(), narrow.data()};
  if (cram_hf_linear(x.data(), bias.data(), y.data(), tokens, rows, width, ends.data(), order.data(), columns.data(),
                     all[kind], peaks.data(), totals.data(), tile, kind, gelu, level, threads, nullptr))
    return false;
  for (int64_t n = 0; n < tokens; n++)
    for (int64_t r = 0; r < rows; r++) {
      double sum = bias[r];
      for (int64_t k = 0; k < width; k++) sum += double(x[n * width + k]) * w[r * width + k];
      if (gelu) sum *= std::erfc(-sum / std::sqrt(2.0)) / 2;
      if (!(std::abs(sum - y[n * rows + r]) < (kind == INT8 ? 1e-6 * (1000 + std::abs(sum)) : 1e-4))) return false;
    }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) return product(1, 1, 33, 0, std::atoi(argv[1]), false, cram_hf_level(), 1, 1);
  const int64_t sizes[] = {0, 1, 16, 23, 33, 129, 300};
  int count = 0;
  for (int level = 0; level <= cram_hf_level(); level++)
    for (int kind = FP32; kind <= (level == 5 ? FP16 : INT8); kind++)
      for (int64_t tokens : {1, 16, 17, 70, 130})
        for (int64_t rows : sizes)
          for (int64_t width : sizes) {
            const int threads = 1 + count % 3;
            const double zeros = count % 4 / 3.0;
            if (!product(tokens, rows, width, zeros, kind, count % 2, level, threads)) {
              std::printf("wrong: level %d, kind %d, %d x %d x %d\n", level, kind, int(tokens), int(rows), int(width));
              return 1;
            }
            count++;
          }
  std::printf("%d products are right\n", count);
  return 0;
}
