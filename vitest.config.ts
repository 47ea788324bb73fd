import { defineConfig } from 'vitest/config';

// Children of tests (agents, jobs) run on the same Node as the tests: the one that package.json pins.
export default defineConfig({
  test: {
    testTimeout: 180_000,
    hookTimeout: 60_000,
    // A slow machine is late, not wrong. A condition that never holds still fails.
    expect: { poll: { timeout: 30_000 } },
    // One more than the machine of CI has cores: much of a test waits.
    maxWorkers: 3,
    reporters: process.env.CI
      ? ['default', ['json', { outputFile: process.env.VITEST_JSON ?? 'build/vitest.json' }]]
      : ['default'],
    coverage: {
      provider: 'v8',
      include: ['{intents,protocol,client,action,agent}/**/*.ts'],
      exclude: ['**/*.test.ts', 'agent/executors/exam.ts'],
      reporter: ['json-summary'],
      reportsDirectory: 'build/coverage',
    },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['{intents,protocol,client,action,agent,bench,scripts}/**/*.test.ts', 'test/*.test.ts'],
          exclude: ['**/*.e2e.test.ts'],
        },
      },
      {
        extends: true,
        test: { name: 'e2e', include: ['test/**/*.e2e.test.ts'], globalSetup: ['test/setup.ts'] },
      },
    ],
  },
});
