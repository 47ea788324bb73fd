import { defineConfig } from 'vitest/config';

/** The walls and the words: no Docker engine, no set-up. */
export default defineConfig({ test: { include: ['test/{architecture,words}.test.ts'], root: '.' } });
