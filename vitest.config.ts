import { defineConfig } from 'vitest/config';

// Children of tests (agents, jobs) run on the same Node as the tests: the one that package.json pins.
export default defineConfig({
  test: {
    include: ['{intents,protocol,client,action,agent,test,bench}/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    globalSetup: ['test/setup.ts'],
    reporters: process.env.CI
      ? ['default', ['json', { outputFile: process.env.VITEST_JSON ?? 'build/vitest.json' }]]
      : ['default'],
  },
});
