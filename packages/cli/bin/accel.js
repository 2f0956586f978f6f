#!/usr/bin/env node
// Committed, not built: package managers link commands at install time, before dist/ exists.
import '../dist/bin.js';
