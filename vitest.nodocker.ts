import { defineConfig } from 'vitest/config';
export default defineConfig({ test: { include: ['{intents,protocol,action,agent}/**/*.test.ts'], exclude: ['**/*.docker.test.ts'] } });
