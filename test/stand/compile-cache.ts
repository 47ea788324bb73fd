import { resolve } from 'node:path';

/** The environment of a process of a bundle: many are started, and Node keeps what it has compiled. */
export const COMPILE_CACHE = { NODE_COMPILE_CACHE: resolve(import.meta.dirname, '../../build/compile-cache') };
