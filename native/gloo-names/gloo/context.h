// Names of Gloo's that c10d's ProcessGroupGloo.hpp mentions, so that it can be read where Gloo's own headers are not installed:
// LibTorch ships Gloo's code without them. What is compiled against these (backends.cpp) makes no object of theirs and calls no
// function of theirs; their layout is LibTorch's affair. So no release of Gloo's headers can be the wrong one.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
