import { describe, expect, it } from 'vitest';
import { blindHostReader } from '../../system/host-reader.ts';
import { createContext, createStep } from '../exam.ts';
import { planDrill, requireImage } from './drill.ts';
import type { EarlierBackup } from './group.ts';

const intent = { action: 'drill', of: { kind: 'sqlite', name: 'nightly' }, from: '/mnt/backup' } as const;
const plan = (scratchFrom?: string) =>
  planDrill(intent, createContext(intent), blindHostReader, {
    ...{ kind: 'sqlite', summary: 'Restored', ...(scratchFrom === undefined ? {} : { scratchFrom }) },
    load: () => ({ steps: [createStep('load')], cleanup: [createStep('remove the server')] }),
  });

describe('a plan of a drill', () => {
  it('checks the backup, loads it, and then records the drill', async () => {
    const { steps, changes, undo } = await plan();
    expect(steps.map(({ name }) => name)).toEqual(['check the backup', 'load', 'note the drill']);
    expect({ changes, undo }).toEqual({ changes: [], undo: [] });
  });

  it('removes its scratch folder only if it has one', async () => {
    const names = async (scratchFrom?: string) => (await plan(scratchFrom)).cleanup.map(({ name }) => name);
    expect(await names()).toEqual(['remove the server']);
    expect(await names('load')).toEqual(['remove the server', 'clear away']);
    expect((await plan('load')).cleanup.at(-1)).toMatchObject({
      ...{ path: '/var/lib/chatops/backups/drill-run-00001', root: '/var/lib/chatops/backups', ifBegan: 'load' },
    });
  });

  it('needs the image that made the backup, except in a dry run', () => {
    const backup: EarlierBackup = {
      ...{ kind: 'postgres', name: 'one', of: 'nightly', run: 'run-00000', at: '2026-11-20T06:00:00.000Z' },
      ...{ bytes: 1, files: 1 },
    };
    expect(requireImage({ ...backup, image: 'sha256:1' })).toBe('sha256:1');
    expect(requireImage({ ...backup, run: '' })).toBe('(its image)');
    expect(() => requireImage(backup)).toThrow(expect.objectContaining({ code: 'image-gone' }));
  });
});
