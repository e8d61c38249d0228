// How OpenMP's threads wait for work: they look for it for milliseconds while the cores are this process's own, and sleep
// almost at once while it shares them.
#pragma once

#include <atomic>

namespace layerwise {

/** Starts to watch whether the cores are shared. Once in the process; without effect where another OpenMP than GNU's is loaded. */
void watchCores();

/** Whether the watch is parked, as it is while nothing is computed. */
extern std::atomic<bool> isWatchParked;
void wakeWatch();

/** A native call was made. */
inline void noteCall() {
  if (isWatchParked.load(std::memory_order_relaxed)) wakeWatch();
}

}  // namespace layerwise
