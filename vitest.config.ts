import { defineConfig } from 'vitest/config';

// Children of tests (agents, jobs) run on the same Node as the tests: the one that package.json pins.
export default defineConfig({
  test: {
    include: ['{intents,protocol,client,action,agent,test,bench,scripts}/**/*.test.ts'],
    testTimeout: 90_000,
    hookTimeout: 60_000,
    // What is waited for comes late where a machine is slow; what never comes still fails.
    expect: { poll: { timeout: 30_000 } },
    // One more than this has cores: much of it waits.
    maxWorkers: 3,
    globalSetup: ['test/setup.ts'],
    reporters: process.env.CI
      ? ['default', ['json', { outputFile: process.env.VITEST_JSON ?? 'build/vitest.json' }]]
      : ['default'],
  },
});
