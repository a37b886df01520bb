"""From an archive of chest radiographs to an honestly measured classifier."""
