import { defineConfig } from 'vitest/config';

/** The walls alone: no Docker engine, no set-up. */
export default defineConfig({ test: { include: ['test/architecture.test.ts'], root: '.' } });
