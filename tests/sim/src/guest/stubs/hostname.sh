#!/bin/sh
echo localhost.localdomain
