#!/usr/bin/env node
// The program's beginning. What a static import names is loaded before anything runs, so all else comes by a later one.
import { watchSignals } from './signals.js';

watchSignals();
await import('./program.js');
