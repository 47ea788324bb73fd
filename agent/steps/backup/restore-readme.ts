import { executors } from '../../executors/index.ts';
import type { BackupDescription } from '../../plan/backup-manifest.ts';

/** Renders the page RESTORE.md next to the backups: how an operator restores the data without this product. */
export function renderRestoreReadme(manifest: BackupDescription): string {
  const { kind, name, source, parts, snapshot } = manifest;
  const executor = executors.find(one => one.kind === kind);
  const commands = snapshot === undefined ? (executor?.restoreByHand?.(manifest) ?? FOLDER) : RESTIC;
  return `# How to restore "${name}" by hand

Each backup here is a copy of \`${source}\` (${kind}), made at the time in its name (UTC). The file of the same name with .json describes it.
${commands}
Stop the programs that use the data first, and start them again afterwards.${snapshot === undefined ? CHECKS[parts === undefined ? 'folder' : 'file'] : ''}
`;
}

const FOLDER = `No program but rsync is needed:

    rsync --archive --hard-links --numeric-ids -- <folder>/ <target>/
`;

const RESTIC = `They are stored in a restic repository. Its password is not here.

    restic --repo ./repository snapshots
    restic --repo ./repository restore <the "snapshot" of the .json> --target <target> --verify
`;

const CHECKS = {
  folder: ` To check a copy, compute its digest; it must be the "sha256" of its .json:

    cd <folder> && find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum -- | sha256sum

Or check each file of it by the list next to it:

    cd <folder> && sha256sum --check --quiet ../<folder>.sha256`,
  file: ` To check an archive, run sha256sum: it must print the "sha256" of its .json.`,
};
