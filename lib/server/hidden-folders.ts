import { realpathSync } from 'node:fs';

/** Clients are told of runs and data by their names, and not where these lie: the function takes such folders out of a message. */
export function hiding(folders: readonly string[]): (message: string) => string {
  const known = [...new Set(folders.flatMap((folder) => [folder, realOf(folder)]))]
    // All lies in the root.
    .filter((folder) => folder !== '/')
    .sort((a, b) => b.length - a.length);
  return (message) =>
    known.reduce((text, folder) => text.replaceAll(`${folder}/`, '').replaceAll(folder, 'the folder'), message);
}

/** Data is read by the path that a link leads to. */
function realOf(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}
