#!/usr/bin/env node
// The program's entry point. Static imports are loaded before anything runs, so the rest is imported dynamically, after the
// signal handlers are there.
import { watchSignals } from './signals.js';

watchSignals();
await import('./program.js');
