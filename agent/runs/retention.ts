import { parseDuration } from '../../intents/duration.ts';
import { type Config, parseSize } from '../config/load.ts';
import type { RunRegistry } from './registry.ts';

const FIRST_MS = 1_000;
const EVERY_MS = 3_600_000;

/**
 * Removes ended runs beyond the limits of `history` in agent.yaml: soon after the start, then every hour.
 * Returns a function that stops it.
 */
export function startRetention(runs: Pick<RunRegistry, 'prune'>, config: () => Pick<Config, 'history'>): () => void {
  const prune = () => {
    const { keep, max_runs, max_size } = config().history;
    const before = new Date(Date.now() - parseDuration(keep)).toISOString();
    runs
      .prune({ before, runs: max_runs, bytes: parseSize(max_size) })
      .catch((error: unknown) => console.error('history:', error));
  };
  const first = setTimeout(prune, FIRST_MS);
  const hourly = setInterval(prune, EVERY_MS);
  first.unref();
  hourly.unref();
  return () => {
    clearTimeout(first);
    clearInterval(hourly);
  };
}
